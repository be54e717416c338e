//! Inlet on real parts: what the scenarios, the demo and the benches are made of.

pub mod esplora;
