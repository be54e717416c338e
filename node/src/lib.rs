//! Inlet's node: everything that touches the world.

pub mod api;
pub mod config;
pub mod control;
pub mod lock;
pub mod logging;
pub mod seed;
pub mod systemd;
//! Inlet, a Lightning Service Provider in one binary: everything that touches the world.
pub mod onchain;
