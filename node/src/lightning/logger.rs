//! LDK's log lines, as `tracing` events under the target `lightning`.

use lightning::util::logger::{Level, Logger, Record};

/// Hands LDK's records to `tracing`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LdkLogger;

/// The fields that LDK keeps beside the message, as one suffix.
fn context(record: &Record) -> String {
	let mut text = String::new();
	if let Some(peer) = record.peer_id {
		text.push_str(&format!(" peer={peer}"));
	}
	if let Some(channel) = record.channel_id {
		text.push_str(&format!(" channel={channel}"));
	}
	if let Some(hash) = record.payment_hash {
		text.push_str(&format!(" payment={hash}"));
	}
	text
}

impl Logger for LdkLogger {
	fn log(&self, record: Record) {
		// The level is part of a tracing callsite, hence one callsite a level; the text is made only if somebody listens.
		macro_rules! emit {
			($level:expr) => {
				if tracing::enabled!(target: "lightning", $level) {
					tracing::event!(target: "lightning", $level, module = record.module_path, "{}{}", record.args, context(&record));
				}
			};
		}
		match record.level {
			Level::Gossip | Level::Trace => emit!(tracing::Level::TRACE),
			Level::Debug => emit!(tracing::Level::DEBUG),
			Level::Info => emit!(tracing::Level::INFO),
			Level::Warn => emit!(tracing::Level::WARN),
			Level::Error => emit!(tracing::Level::ERROR),
		}
	}
}
