//! Lightning payments.

use super::table::{Column::*, Table, pairs};
use super::{Style, msat, prefix, word};
use crate::control::{Invoice, Offer, Page, PayRequest, Payment};

fn amount(msats: Option<u64>) -> String {
	msats.map_or("any amount".to_owned(), |n| format!("{} sat", msat(n)))
}

pub(in crate::client) fn invoice(i: &Invoice, style: &Style) -> String {
	let until = style.full(i.expires_at);
	format!("{}\nfor {}, until {until}", i.invoice, amount(i.amount_msat))
}

pub(in crate::client) fn offer(o: &Offer, style: &Style) -> String {
	let until = o.expires_at.map_or("for ever".to_owned(), |at| format!("until {}", style.full(at)));
	format!("{}\nfor {}, {until}", o.offer, amount(o.amount_msat))
}

pub(in crate::client) fn pay_question(r: &PayRequest) -> String {
	let what = match r.amount_msat.or_else(|| invoice_amount(&r.to)) {
		Some(n) => format!("{} sat", msat(n)),
		None => "what it asks for".to_owned(),
	};
	let fee = r.max_fee_msat.map(|fee| format!(" and at most {} sat for routing", msat(fee))).unwrap_or_default();
	format!("Pay {what}{fee} to {}?", prefix(&r.to))
}

/// The amount that a BOLT 11 invoice has in its human-readable part, in millisatoshis rounded up.
fn invoice_amount(invoice: &str) -> Option<u64> {
	let lower = invoice.to_ascii_lowercase();
	let (readable, _) = lower.strip_prefix("lightning:").unwrap_or(&lower).rsplit_once('1')?;
	let amount = readable.strip_prefix("ln")?.trim_start_matches(|c: char| c.is_ascii_alphabetic());
	// Picobitcoin, a tenth of a millisatoshi each.
	let (digits, pico) = match amount.chars().last()? {
		'm' => (&amount[..amount.len() - 1], 1_000_000_000),
		'u' => (&amount[..amount.len() - 1], 1_000_000),
		'n' => (&amount[..amount.len() - 1], 1_000),
		'p' => (&amount[..amount.len() - 1], 1),
		_ => (amount, 1_000_000_000_000),
	};
	Some(digits.parse::<u64>().ok()?.checked_mul(pico)?.div_ceil(10))
}

pub(in crate::client) fn payments(page: &Page<Payment>, style: &Style) -> String {
	let mut table = Table::new([
		("WHEN", Left),
		("", Left),
		("KIND", Left),
		("STATUS", Left),
		("SAT", Right),
		("FEE", Right),
		("ID", Left),
		("FOR", Left),
	]);
	for payment in &page.items {
		table.row([
			style.short(payment.created_at),
			word(payment.direction),
			word(payment.kind),
			word(payment.status),
			payment.amount_msat.map(msat).unwrap_or_default(),
			payment.fee_msat.map(msat).unwrap_or_default(),
			prefix(&payment.id),
			payment.description.clone().unwrap_or_default(),
		]);
	}
	table.page(page.next.as_ref(), "no payments yet")
}

pub(in crate::client) fn payment(p: &Payment, style: &Style) -> String {
	let lasted = p.finished_at.map(|at| {
		let ms = at.0.saturating_sub(p.created_at.0);
		format!("{} (after {}.{:03} s)", style.full(at), ms / 1000, ms % 1000)
	});
	pairs([
		("payment", Some(p.id.clone())),
		("status", Some(format!("{} · {} · {}", word(p.status), word(p.direction), word(p.kind)))),
		("amount", p.amount_msat.map(|n| format!("{} sat", msat(n)))),
		("fee", p.fee_msat.map(|n| format!("{} sat", msat(n)))),
		("to", p.to.clone()),
		("for", p.description.clone()),
		("failed", p.reason.clone()),
		("hash", p.payment_hash.clone()),
		("preimage", p.preimage.clone()),
		("created", Some(style.full(p.created_at))),
		("finished", lasted),
	])
}

#[cfg(test)]
mod tests {
	use super::invoice_amount;

	#[test]
	fn the_question_names_the_amount_of_an_invoice() {
		assert_eq!(invoice_amount("lnbc2500u1pvjluez"), Some(250_000_000));
		assert_eq!(invoice_amount("LIGHTNING:LNBCRT20M1PVJLUEZ"), Some(2_000_000_000));
		assert_eq!(invoice_amount("lntbs10n1x"), Some(1_000));
		assert_eq!(invoice_amount("lnbc25p1x"), Some(3));
		assert_eq!(invoice_amount("lnbc21x"), Some(200_000_000_000));
		for open in ["lnbc1pvjluez", "lno1xyz", "02ee", "", "lnbc99999999999999999999m1x"] {
			assert_eq!(invoice_amount(open), None, "{open}");
		}
	}
}
