//! What Inlet must do, on real parts: one module per behaviour, one binary so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod backend;
mod backup;
mod bad_input;
mod batch;
mod chain_trouble;
mod closing;
mod cost;
mod crash;
mod disk;
mod failover;
mod just_in_time;
mod notices;
mod orders;
mod reclaim;
mod reserve_coins;
mod restarts;
mod splice;
mod steps;
mod tor;
mod wake;
