//! Signs moved binary packages again.
pub mod atom;
pub mod index;
pub mod plan;
pub mod report;
pub mod store;
pub mod updates;
