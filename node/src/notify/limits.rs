//! How much is sent, how fast, and for how long. Every queue and map of this module has its bound here.

use inlet_lsp::notice::Notice;
use std::time::Duration;
use tokio::time::Instant;

/// What a notice is to those who cause it. The kinds share nothing but the bounds of one client, so that a flood of the
/// first, which costs a stranger nothing but messages, never delays the second, which needs a channel and a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
	/// `webhook_registered`: anybody who sets a webhook causes it.
	Greeting,
	/// All others.
	Wake,
}

impl Kind {
	/// The kind of this notice.
	pub fn of(notice: &Notice) -> Kind {
		match notice {
			Notice::WebhookRegistered => Kind::Greeting,
			Notice::PaymentIncoming
			| Notice::ExpirySoon { .. }
			| Notice::LiquidityManagementRequest
			| Notice::OnionMessageIncoming => Kind::Wake,
		}
	}
}

/// The bounds of one [`Kind`].
#[derive(Clone, Copy, Debug)]
pub struct Share {
	/// Notices waiting or on their way.
	pub held: usize,
	/// Of these, to one host.
	pub held_per_host: usize,
	/// Requests at once.
	pub at_once: usize,
	/// Of these, to one host.
	pub at_once_per_host: usize,
	/// Notices taken.
	pub rate: Rate,
	/// Of these, to one host.
	pub rate_per_host: Rate,
}

/// At most `burst` at once, and one more after each `every`.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
	/// How many at once after a pause.
	pub burst: u32,
	/// What one costs in time.
	pub every: Duration,
}

/// All bounds and time-outs.
#[derive(Clone, Debug)]
pub struct Limits {
	/// Bounds of greetings.
	pub greetings: Share,
	/// Bounds of wakes.
	pub wakes: Share,
	/// Notices of one client, of both kinds, waiting or on their way.
	pub held_per_client: usize,
	/// Notices of one client taken, of both kinds.
	pub rate_per_client: Rate,
	/// Clients or hosts whose rate is remembered. If more are in debt at once, who is new is dropped.
	pub remembered: usize,
	/// Look-up, TCP and TLS may take this long.
	pub connect: Duration,
	/// A whole request may take this long, [`Limits::connect`] included.
	pub request: Duration,
	/// Webhooks whose `webhook_registered` was dropped, and which are told so before anything else; the oldest is forgotten.
	pub owed: usize,
	/// The pauses before each retry; there are no more retries than these.
	pub pauses: Vec<Duration>,
	/// The longest pause that a server can ask for by `Retry-After`.
	pub longest_pause: Duration,
	/// How long `payment_incoming` and `onion_message_incoming` are worth sending: the payment is not held longer.
	pub life_of_payment: Duration,
	/// How long the others are worth sending. Clients accept what is stamped within 10 minutes (bLIP-55); each attempt is
	/// stamped anew, so this bounds how late the news may be.
	pub life: Duration,
}

impl Default for Limits {
	fn default() -> Self {
		let every = |ms| Duration::from_millis(ms);
		Limits {
			greetings: Share {
				held: 256,
				held_per_host: 64,
				at_once: 4,
				at_once_per_host: 2,
				rate: Rate { burst: 60, every: every(1000) },
				rate_per_host: Rate { burst: 30, every: every(2000) },
			},
			wakes: Share {
				held: 768,
				// A wallet maker's gateway is one host for all its users.
				held_per_host: 512,
				at_once: 16,
				at_once_per_host: 8,
				rate: Rate { burst: 512, every: every(100) },
				rate_per_host: Rate { burst: 256, every: every(200) },
			},
			held_per_client: 32,
			rate_per_client: Rate { burst: 40, every: every(10_000) },
			remembered: 4096,
			owed: 256,
			connect: Duration::from_secs(5),
			request: Duration::from_secs(10),
			pauses: [2, 6, 18].map(Duration::from_secs).into(),
			longest_pause: Duration::from_secs(60),
			life_of_payment: Duration::from_secs(60),
			life: Duration::from_secs(600),
		}
	}
}

impl Limits {
	/// For everything over Tor, where a new circuit takes seconds: the payment that waits is held no longer for it.
	pub fn over_tor() -> Limits {
		Limits { connect: Duration::from_secs(20), request: Duration::from_secs(30), ..Limits::default() }
	}

	/// The bounds of this kind.
	pub fn of(&self, kind: Kind) -> &Share {
		match kind {
			Kind::Greeting => &self.greetings,
			Kind::Wake => &self.wakes,
		}
	}

	/// How long after it was asked for this notice is worth sending.
	pub fn life_of(&self, notice: &Notice) -> Duration {
		match notice {
			Notice::PaymentIncoming | Notice::OnionMessageIncoming => self.life_of_payment,
			Notice::WebhookRegistered | Notice::ExpirySoon { .. } | Notice::LiquidityManagementRequest => self.life,
		}
	}
}

/// What somebody has used of a [`Rate`]: the time at which all of it is free again.
#[derive(Clone, Copy, Debug)]
pub struct Used(Instant);

impl Used {
	/// Nothing is used.
	pub fn nothing(now: Instant) -> Used {
		Used(now)
	}

	/// May `n` more be taken?
	pub fn allows(&self, rate: &Rate, n: u32, now: Instant) -> bool {
		self.0.saturating_duration_since(now) + rate.every * n <= rate.every * rate.burst
	}

	/// Takes `n`.
	pub fn take(&mut self, rate: &Rate, n: u32, now: Instant) {
		self.0 = self.0.max(now) + rate.every * n;
	}

	/// Is all of it free again, so that it need not be remembered?
	pub fn is_over(&self, now: Instant) -> bool {
		self.0 <= now
	}
}
