//! Inlet, a Lightning Service Provider in one binary: everything that touches the world.

pub mod onchain;
