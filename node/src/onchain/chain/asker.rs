//! A client of one Esplora server, by whatever way it is reached.

use super::{ChainError, shown};
use crate::tor::{Bridge, Way};
use esplora_client::{AsyncClient, Builder};
use std::ops::Deref;

/// The client, and the bridge over Tor that it needs: it knows no SOCKS.
pub(super) struct Asker {
	client: AsyncClient,
	_bridge: Option<Bridge>,
}

impl Asker {
	/// Nothing is asked yet. Within a runtime, if it goes over Tor.
	pub(super) fn new(url: &str, way: Way, with: impl FnOnce(Builder) -> Builder) -> Result<Asker, ChainError> {
		let wrong = |cause: String| ChainError::Config(format!("{} cannot be used: {cause}", shown(url)));
		let bridge = way.bridge(url).map_err(|e| wrong(e.to_string()))?;
		let mut builder = with(Builder::new(url));
		if let Some(bridge) = &bridge {
			builder = builder.proxy(bridge.url());
		}
		Ok(Asker { client: builder.build_async().map_err(|e| wrong(e.to_string()))?, _bridge: bridge })
	}
}

impl Deref for Asker {
	type Target = AsyncClient;

	fn deref(&self) -> &AsyncClient {
		&self.client
	}
}
