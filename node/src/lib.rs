//! The node: everything of Inlet that touches the world.

pub mod api;
pub mod control;
