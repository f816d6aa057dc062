//! An OpenPGP card for the tests: its state is in a folder, its number is given, and it is pulled by ending this.
//!
//!     virtual-card FOLDER NUMBER

mod card;
mod parts;

use std::error::Error;
use std::path::PathBuf;

use trussed::virt::{StorageConfig, StoreConfig, with_platform};
use trussed_core::types::Bytes;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let (Some(folder), Some(number)) = (words.next().map(PathBuf::from), words.next()) else {
        return Err("virtual-card FOLDER NUMBER".into());
    };
    let mut options = opcard::Options::default();
    options.serial = number.to_string_lossy().parse::<u32>()?.to_be_bytes();
    let store = StoreConfig {
        internal: StorageConfig::filesystem(folder.join("internal")),
        external: StorageConfig::filesystem(folder.join("external")),
        volatile: StorageConfig::ram(),
    };
    let secret = Bytes::try_from(&b"of no hardware"[..]).map_err(|_| "too long")?;
    with_platform(store, |platform| {
        platform.run_client_with_backends("opcard", parts::Dispatch::new(secret), parts::BACKENDS, |client| {
            let mut card = card::Card::new(opcard::Card::new(client, options));
            vpicc::connect()?.run(&mut card)?;
            Ok(())
        })
    })
}
