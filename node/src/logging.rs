//! What the node says, on standard error: short lines for people, or JSON for machines, with levels by target.

use crate::config::{LogConfig, LogFormat};
use chrono::SecondsFormat;
use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Starts logging for the whole process.
///
/// # Errors
/// Something else has started logging already.
pub fn init(config: &LogConfig) -> Result<(), TryInitError> {
	let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
	let style = if std::io::stderr().is_terminal() {
		Style::Stamped(|| chrono::Local::now().format("%H:%M:%S%.3f").to_string())
	} else if std::env::var_os("JOURNAL_STREAM").is_some() {
		Style::Journal
	} else {
		Style::Stamped(|| chrono::Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true))
	};
	subscriber(config, std::io::stderr, style, colour).try_init()
}

/// What a text line starts with.
#[derive(Clone, Copy)]
enum Style {
	/// The time as this gives it: local and short on a terminal, UTC with its date in a file.
	Stamped(fn() -> String),
	/// The priority that journald reads (sd-daemon(3)); it adds the time itself.
	Journal,
}

fn subscriber<W>(config: &LogConfig, writer: W, style: Style, colour: bool) -> impl Subscriber + Send + Sync
where
	W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
	let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
	let layer = match config.format {
		LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
		LogFormat::Text => layer.fmt_fields(ShortFields).event_format(ShortLine(style)).boxed(),
	};
	tracing_subscriber::registry().with(layer.with_filter(config.targets.clone()))
}

/// `10:02:38.104 WARN chain     esplora gone, trying the next url=... (sale id=s_7Q2M)`. The level is left out for
/// `INFO`, the target is shortened to its last part.
struct ShortLine(Style);

impl<S, N> FormatEvent<S, N> for ShortLine
where
	S: Subscriber + for<'a> LookupSpan<'a>,
	N: for<'a> FormatFields<'a> + 'static,
{
	fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
		let level = *event.metadata().level();
		match self.0 {
			Style::Stamped(clock) => write!(out, "{} ", clock())?,
			Style::Journal => write!(out, "<{}>", priority(level))?,
		}
		if level != Level::INFO {
			let paint = out.has_ansi_escapes() && level <= Level::WARN;
			let (on, off) = if paint { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
			write!(out, "{on}{level}{off} ")?;
		}
		write!(out, "{:<9} ", short_target(event.metadata().target()))?;
		context.field_format().format_fields(out.by_ref(), event)?;
		for span in context.event_scope().into_iter().flatten() {
			write!(out, " ({}", span.name())?;
			if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
				write!(out, " {fields}")?;
			}
			out.write_char(')')?;
		}
		writeln!(out)
	}
}

/// The message, then `name=value`, with a space between. What a peer sent may be in there: control characters are
/// written as escapes, so that nobody can forge a line or drive the terminal.
struct ShortFields;

impl<'w> FormatFields<'w> for ShortFields {
	fn format_fields<R: tracing_subscriber::field::RecordFields>(&self, out: Writer<'w>, fields: R) -> fmt::Result {
		let mut visitor = ShortVisitor { out, first: true, result: Ok(()) };
		fields.record(&mut visitor);
		visitor.result
	}
}

struct ShortVisitor<'w> {
	out: Writer<'w>,
	first: bool,
	result: fmt::Result,
}

impl ShortVisitor<'_> {
	fn put(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
		let mut text = String::new();
		if !std::mem::take(&mut self.first) {
			text.push(' ');
		}
		if name != "message" {
			write!(text, "{name}=")?;
		}
		write!(text, "{value}")?;
		for c in text.chars() {
			match c {
				c if c.is_control() => write!(self.out, "{}", c.escape_default())?,
				c => self.out.write_char(c)?,
			}
		}
		Ok(())
	}
}

impl Visit for ShortVisitor<'_> {
	fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
		if self.result.is_ok() {
			self.result = self.put(field.name(), format_args!("{value:?}"));
		}
	}

	fn record_str(&mut self, field: &Field, value: &str) {
		if self.result.is_ok() {
			self.result = self.put(field.name(), format_args!("{value}"));
		}
	}
}

/// Syslog's numbers for our levels.
fn priority(level: Level) -> u8 {
	match level {
		Level::ERROR => 3,
		Level::WARN => 4,
		Level::INFO => 6,
		_ => 7,
	}
}

/// `inlet::onchain::chain` is `chain`; another crate's target is the crate's name, `lightning::chain` is `lightning`.
fn short_target(target: &str) -> &str {
	match target.split_once("::") {
		Some(("inlet", path)) => path.rsplit("::").next().unwrap_or(path),
		Some((krate, _)) => krate,
		None => target,
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::io::{self, Write};
	use std::sync::{Arc, Mutex};
	use tracing_subscriber::filter::Targets;

	#[derive(Clone, Default)]
	struct Lines(Arc<Mutex<Vec<u8>>>);

	impl Write for Lines {
		fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
			self.0.lock().unwrap().extend_from_slice(bytes);
			Ok(bytes.len())
		}

		fn flush(&mut self) -> io::Result<()> {
			Ok(())
		}
	}

	fn clock() -> String {
		"10:02:38.104".into()
	}

	/// What is written while `say` speaks.
	fn heard(levels: &str, format: LogFormat, style: Style, colour: bool, say: impl FnOnce()) -> String {
		let lines = Lines::default();
		let writer = lines.clone();
		let config = LogConfig { targets: levels.parse::<Targets>().unwrap(), format };
		tracing::subscriber::with_default(subscriber(&config, move || writer.clone(), style, colour), say);
		let bytes = lines.0.lock().unwrap().clone();
		String::from_utf8(bytes).unwrap()
	}

	#[test]
	fn text_lines_are_short() {
		let text = heard("info", LogFormat::Text, Style::Stamped(clock), false, || {
			tracing::info!(target: "inlet::onchain::chain", height = 231_004, "synced");
			let _sale = tracing::info_span!("sale", id = "s_7Q2M").entered();
			tracing::warn!(target: "lightning::ln::channelmanager", "odd");
			tracing::debug!("not heard");
		});
		let expected =
			"10:02:38.104 chain     synced height=231004\n10:02:38.104 WARN lightning odd (sale id=s_7Q2M)\n";
		assert_eq!(text, expected);
	}

	#[test]
	fn the_journal_gets_priorities_instead_of_times() {
		let text = heard("debug", LogFormat::Text, Style::Journal, false, || {
			tracing::error!(target: "inlet", "a");
			tracing::warn!(target: "inlet", "b");
			tracing::info!(target: "inlet", "c");
			tracing::debug!(target: "inlet", "d");
		});
		assert_eq!(text, "<3>ERROR inlet     a\n<4>WARN inlet     b\n<6>inlet     c\n<7>DEBUG inlet     d\n");
	}

	#[test]
	fn a_peer_cannot_forge_lines_or_colours() {
		let text = heard("info", LogFormat::Text, Style::Journal, false, || {
			tracing::info!(target: "inlet", alias = "x\n<3>ERROR \x1b[31m", "peer {}", "\r\u{9b}");
		});
		assert_eq!(text, "<6>inlet     peer \\r\\u{9b} alias=x\\n<3>ERROR \\u{1b}[31m\n");
	}

	#[test]
	fn colour_only_where_it_is_wanted() {
		let say = || tracing::error!(target: "inlet", "x");
		assert!(heard("info", LogFormat::Text, Style::Journal, true, say).contains('\x1b'));
		assert!(!heard("info", LogFormat::Text, Style::Journal, false, say).contains('\x1b'));
	}

	#[test]
	fn each_target_has_its_own_level() {
		let text = heard("warn,inlet::api=debug,lightning=off", LogFormat::Text, Style::Journal, false, || {
			tracing::debug!(target: "inlet::api", "heard");
			tracing::info!(target: "inlet::driver", "quiet");
			tracing::error!(target: "lightning::ln", "silenced");
			tracing::warn!(target: "inlet::driver", "loud");
		});
		assert_eq!(text, "<7>DEBUG api       heard\n<4>WARN driver    loud\n");
	}

	#[test]
	fn json_lines_are_objects() {
		let text = heard("info", LogFormat::Json, Style::Journal, false, || {
			let _sale = tracing::info_span!("sale", id = "s_7Q2M").entered();
			tracing::info!(target: "inlet::jit", parts = 2, "open\n");
		});
		let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
		assert_eq!(line["message"], "open\n");
		assert_eq!(line["parts"], 2);
		assert_eq!(line["target"], "inlet::jit");
		assert_eq!(line["spans"][0]["id"], "s_7Q2M");
		assert_eq!(text.lines().count(), 1);
	}
}
