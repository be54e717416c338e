//! Inlet on real parts: a real bitcoind on a private regtest, the real `inlet` binary, and real wallets that are not ours.
//!
//! Everything a scenario starts lives below one [`Scratch`] folder, listens on free ports and ends with the value that
//! stands for it. When a scenario fails, the logs of all its processes are printed and the folder is kept.

mod artifacts;
pub mod bitcoind;
pub mod business;
pub mod crash;
pub mod debian;
pub mod electrum;
pub mod esplora;
pub mod fuzz;
pub mod inlet;
pub mod postgres;
pub mod process;
pub mod race;
pub mod rpc;
pub mod scenario;
pub mod scratch;
pub mod sim;
mod switched;
pub mod thin;
pub mod tor;
pub mod wallet;
pub mod webhook;
pub mod world;

pub use artifacts::{inlet_exe, use_profiles, wallet_exe};
pub use bitcoind::Bitcoind;
pub use inlet::{Inlet, InletOptions};
pub use postgres::Postgres;
pub use process::Process;
pub use rpc::{Rpc, RpcError};
pub use scenario::scenario;
pub use scratch::{Scratch, eventually, free_port};
pub use wallet::{Wallet, WalletOptions};
pub use world::{Backend, World};
