//! The race: Inlet and ldk-node as an LSP, side by side on one machine, driven by the same clients. See `tests/docs/race.md`.

mod crowd;
mod forward;
mod jit;
mod life;
mod lsp;
pub mod meter;
mod options;
mod report;
mod run;

pub use options::{Options, USAGE};
pub use run::run;
