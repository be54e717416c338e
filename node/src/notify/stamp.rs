//! The time and signature of a request (bLIP-55, L5-17).

use crate::control::Time;
use inlet_lsp::notice::Notice;
use std::sync::Arc;
use std::time::SystemTime;

/// Signs a text with the node's secret, as `signmessage` of LND and Core Lightning does: the zbase32 of a recoverable
/// signature over sha256d("Lightning Signed Message:" + text). The secret stays where it is.
pub type Sign = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// One request, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
	/// `YYYY-MM-DDThh:mm:ss.uuuZ`.
	pub timestamp: String,
	/// Over [`signed_text`].
	pub signature: String,
	/// The body, byte for byte what is signed.
	pub body: String,
}

/// A notice, stamped and signed at this time.
pub fn stamp(notice: &Notice, now: SystemTime, sign: &Sign) -> Stamped {
	let (timestamp, body) = (Time::from(now).to_string(), notice.body());
	let signature = sign(&signed_text(&timestamp, &body));
	Stamped { timestamp, signature, body }
}

/// What is signed. The words keep people from signing it by hand for somebody who asks them to.
pub fn signed_text(timestamp: &str, body: &str) -> String {
	format!("LSPS5: DO NOT SIGN THIS MESSAGE MANUALLY: LSP: At {timestamp} I notify {body}")
}
