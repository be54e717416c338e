//! Thin Lightning clients in this process, for what real wallets do not do: a peer that speaks raw LSPS messages, and a
//! small wallet on LDK and `lightning-liquidity` that misbehaves when told to.

mod behaviour;
mod buy;
mod chain;
mod node;
mod pay;
mod raw;
mod signing;
mod splice;
mod store;

pub use behaviour::{Behaviour, OnOpen, OnPayment, ThinEvent};
pub use buy::{Bought, Order};
pub use node::{ThinConfig, ThinNode};
pub use raw::{
	Identity, LSPS_FEATURE_BIT, LSPS_MESSAGE_TYPE, MAX_PAYLOAD, RawPeer, RawPeerOptions, check_response, request,
};

use anyhow::{Context, Result};
use bitcoin::secp256k1::PublicKey;
use lightning::util::logger::{Logger, Record};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Splits `NODE_ID@HOST:PORT`.
///
/// # Errors
/// It has another form.
pub fn parse_uri(uri: &str) -> Result<(PublicKey, SocketAddr)> {
	let (node_id, address) = uri.split_once('@').with_context(|| format!("{uri} is not NODE_ID@HOST:PORT"))?;
	Ok((node_id.parse()?, address.parse()?))
}

fn since_epoch() -> Duration {
	SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}

fn random_bytes() -> Result<[u8; 32]> {
	use std::io::Read;
	let mut bytes = [0; 32];
	std::fs::File::open(Path::new("/dev/urandom"))?.read_exact(&mut bytes)?;
	Ok(bytes)
}

/// LDK's log of one thin client, to standard error if `INLET_TEST_LDK_LOG` is set.
struct Log {
	name: String,
	on: bool,
}

impl Log {
	fn new(name: &str) -> Log {
		Log { name: name.to_owned(), on: std::env::var_os("INLET_TEST_LDK_LOG").is_some() }
	}
}

impl Logger for Log {
	fn log(&self, record: Record) {
		if self.on {
			let elapsed = since_epoch();
			let (secs, millis) = (elapsed.as_secs() % 1000, elapsed.subsec_millis());
			eprintln!("{secs:03}.{millis:03} {} {} {}: {}", self.name, record.level, record.module_path, record.args);
		}
	}
}
