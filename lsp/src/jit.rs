//! bLIP-52: channels that are opened when their first payment arrives.
//!
//! `Bought -> Gathering -> Opening -> Forwarded -> Done`, with `Owing` for a channel whose fee was not paid yet and
//! `Failed` for what came to nothing. Beside the state, a channel may be withheld (not broadcast yet) or be discarded.
//! See `docs/core.md`.

mod deliver;
mod gather;
mod sell;
mod withhold;

pub use deliver::split;
pub(crate) use deliver::{channel_closed, channel_ready, forward_failed, forwarded, funded, open_failed, skimmed};
pub(crate) use gather::{connected, htlc_gone, htlc_intercepted, started, tick};
pub(crate) use sell::{buy, get_info};
pub use withhold::{CLAIM_AGAIN_SECS, CLAIM_SECS, DISCARD_AFTER_SECS, MAX_EXPIRY_BLOCKS, MAX_WITHHELD_PPM};
pub(crate) use withhold::{discarded, owes_nothing, withheld};

use crate::book::{MAX_ATTEMPTS_KEPT, Sale, SaleState, push_bounded};
use crate::money::{Msat, Sat};
use crate::turn::Turn;

/// The smallest HTLC that we count on being able to forward over a channel that is not open yet.
pub const HTLC_MINIMUM: Msat = Msat(1000);

/// An HTLC whose outgoing side expires within so many blocks is not held any more: LDK fails it 39 blocks before, and
/// LDK wallets refuse one with 40 blocks or less. (Between the two hops there are our `cltv_expiry_delta` blocks more.)
pub const EXPIRY_MARGIN_BLOCKS: u32 = 40;

/// A funding transaction may take so long to be mined: a lifetime that counts from its confirmation is longer by that.
pub(crate) const FUNDING_MARGIN_BLOCKS: u32 = 144;

/// Fails everything that is held for the sale.
fn fail_parts(turn: &mut Turn<'_>, sale: &mut Sale, reason: &str) {
	if sale.parts.is_empty() {
		return;
	}
	let count = sale.parts.len();
	for part in std::mem::take(&mut sale.parts) {
		turn.fail_htlc(part.intercept_id, reason);
	}
	sale.note(turn.now, "fail", format!("{count} parts: {reason}"));
}

/// The payment that was to pay the fee did not: the next one does. If it is held already it goes with the next
/// [`Input::Connected`](crate::input::Input::Connected) and not at once, for LDK reports the failure of each part
/// alike, and the rest of them must not be taken for its own.
fn owe(turn: &mut Turn<'_>, sale: &mut Sale) {
	rest(turn, sale);
	if !sale.parts.is_empty() {
		sale.state = SaleState::Gathering { deadline: turn.now };
		gather::wait(turn, sale);
	}
}

/// The state of a sale for which nothing is held and nothing is being opened. A channel that is not broadcast yet has
/// no reason to be any more.
fn rest(turn: &mut Turn<'_>, sale: &mut Sale) {
	withhold::give_back(turn, sale);
	sale.paying = None;
	if sale.open_channel().is_some() {
		sale.state = SaleState::Owing;
	} else if turn.now < sale.terms.valid_until {
		sale.state = SaleState::Bought;
	} else {
		give_up(sale, "expired");
	}
}

fn give_up(sale: &mut Sale, reason: &str) {
	sale.state = SaleState::Failed { reason: reason.to_string() };
	sale.reserved = Sat::ZERO;
}

/// Forgets the attempt at a channel: whatever LDK still says of it is about the past.
fn forget_attempt(turn: &Turn<'_>, sale: &mut Sale) {
	let fresh = u128::from_be_bytes(turn.random(&format!("{} {}", sale.id, sale.user_channel_id)));
	push_bounded(&mut sale.earlier_channel_ids, sale.user_channel_id, MAX_ATTEMPTS_KEPT);
	sale.user_channel_id = fresh;
	sale.channel = None;
}
