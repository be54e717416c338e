//! Inlet's node: everything that touches the world.

pub mod api;
pub mod backup;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod crash;
pub mod disk;
pub mod doctor;
pub mod driver;
pub mod hands;
pub mod lightning;
pub mod lock;
pub mod logging;
pub mod migrate;
pub mod notify;
pub mod onchain;
pub mod operator;
pub mod pulse;
mod purse;
pub mod refunds;
pub mod run;
pub mod seed;
pub mod stop;
pub mod stored;
pub mod systemd;
pub mod tor;
