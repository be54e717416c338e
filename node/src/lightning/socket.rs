//! Sockets for LDK.
pub use lightning_net_tokio::SocketDescriptor as Socket;
#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
