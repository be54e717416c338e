//! The node: everything of Inlet that touches the world.

pub mod api;
pub mod cli;
pub mod client;
pub mod control;
