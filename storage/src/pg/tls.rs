//! TLS to the server, by rustls. The server's certificate is always verified, and that it is for the host that was asked for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Inner;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Makes a connector for each host.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
	/// Trusts these roots (PEM), or the public ones if there are none. An error: what is wrong with them.
	pub fn new(roots: &[u8]) -> Result<Tls, String> {
		let mut store = RootCertStore::empty();
		if roots.is_empty() {
			store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
		}
		for root in CertificateDer::pem_slice_iter(roots) {
			let root = root.map_err(|e| format!("not a PEM file: {e}"))?;
			store.add(root).map_err(|e| format!("a certificate in it cannot be used: {e}"))?;
		}
		if store.is_empty() {
			return Err("there is no certificate in it".into());
		}
		let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
			.with_safe_default_protocol_versions()
			.map_err(|e| e.to_string())?
			.with_root_certificates(store)
			.with_no_client_auth();
		Ok(Tls(Arc::new(config)))
	}
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
	type Stream = Stream<S>;
	type TlsConnect = Connect;
	type Error = io::Error;

	fn make_tls_connect(&mut self, host: &str) -> io::Result<Connect> {
		Ok(Connect { connector: TlsConnector::from(self.0.clone()), host: host.to_owned() })
	}
}

/// Connects to one host.
pub(super) struct Connect {
	connector: TlsConnector,
	/// Empty for a Unix socket, on which there is no TLS.
	host: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connect {
	type Stream = Stream<S>;
	type Error = io::Error;
	type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

	fn connect(self, stream: S) -> Self::Future {
		Box::pin(async move {
			let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
			Ok(Stream(self.connector.connect(name, stream).await?))
		})
	}
}

/// A connection under TLS.
pub(super) struct Stream<S>(Inner<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
	fn channel_binding(&self) -> ChannelBinding {
		ChannelBinding::none()
	}
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
	fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
		Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
	}
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
	fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
		Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
	}

	fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
		Pin::new(&mut self.get_mut().0).poll_flush(cx)
	}

	fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
		Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
	}
}
