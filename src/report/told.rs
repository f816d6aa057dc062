//! What every command has in the end, whatever it is about: a status, an exit status, an object.

use serde::Serialize;

use super::Status;

/// What a command has to say.
pub(crate) trait Told: Serialize + Sized {
    /// How it ended.
    fn status(&self) -> Status;

    /// The exit status that the contract gives it.
    fn exit_status(&self) -> u8 {
        self.status().exit_status()
    }

    /// The one JSON object of the contract.
    ///
    /// # Errors
    /// It cannot be made (it always can).
    fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
