//! What an LSP owes, in few words: the rules of bLIP-50, 51, 52 and 55 that bind it, and the ways in which LSPs lose money.

/// A rule, and why it has no test if it has none.
pub struct Rule {
	/// `L2-19`, `R12`.
	pub id: &'static str,
	/// What is owed.
	pub text: &'static str,
	/// Why no test can show it, or what stands in the way of it.
	pub unless: Option<&'static str>,
}

const fn rule(id: &'static str, text: &'static str) -> Rule {
	Rule { id, text, unless: None }
}

const fn untested(id: &'static str, text: &'static str, why: &'static str) -> Rule {
	Rule { id, text, unless: Some(why) }
}

/// The groups of the table, in its order.
pub const GROUPS: &[(&str, &[Rule])] = &[
	("LSPS0, bLIP-50: transport", LSPS0),
	("LSPS1, bLIP-51: channels on order", LSPS1),
	("LSPS2, bLIP-52: channels just in time", LSPS2),
	("LSPS5, bLIP-55: webhooks", LSPS5),
	("How LSPs lose money", RISKS),
];

const LSPS0: &[Rule] = &[
	rule("L0-1", "every message is of type 37913"),
	rule(
		"L0-2",
		"a payload is one UTF-8 JSON object, white space around it allowed; all else is -32700 with a null id",
	),
	rule("L0-3", "two objects in one message are -32700"),
	rule("L0-4", "a 0 byte is -32700"),
	rule("L0-5", "an array, a string, a number, null are -32700"),
	rule("L0-6", "what is not a JSON-RPC 2.0 request (version, method, id) is -32700"),
	rule("L0-7", "the id of a parse error is null"),
	rule("L0-8", "a bad message costs itself only: the next good one is served"),
	rule("L0-9", "one response to a request: the same id, a result or an error, `data` an object or absent"),
	rule("L0-10", "an unknown method, or one of a protocol that is not offered, is -32601"),
	rule("L0-11", "an unrecognized parameter is -32602 and named"),
	rule("L0-12", "every -32602 has `data.unrecognized`"),
	rule("L0-13", "parameters by position are refused"),
	rule("L0-14", "a missing parameter, or one of the wrong type, is -32602"),
	rule("L0-15", "`lsps0.list_protocols` lists what is offered, without 0"),
	rule("L0-16", "feature bit 729 in `init` (and in the node's announcement), never 728"),
	rule("L0-17", "who never sent 37913 is sent none"),
	rule("L0-18", "error codes of LSPSn lie in its hundred"),
	rule("L0-19", "encodings: amounts, datetimes, SCIDs, addresses, outpoints"),
	rule("L0-20", "a lost response is as good as delivered; what is kept before a payment has an end"),
	rule("L0-21", "each request has exactly one response"),
	rule("L0-22", "payloads up to 65,533 bytes; none larger is sent"),
	rule("L0-23", "error 1 comes with `data.message`"),
	rule("L0-24", "a flood is bounded, others are served"),
	rule("L0-25", "unknown odd types are ignored, an unknown even one costs its sender only"),
	untested(
		"L0-26",
		"state is bound in time, or carried by the client",
		"a rule for designers of protocols; kept by LSPS1, 2 and 5",
	),
];

const LSPS1: &[Rule] = &[
	rule("L1-1", "`lsps1.get_info` has all options, at the top level"),
	rule("L1-2", "no minimum is above its maximum"),
	rule("L1-3", "the options do not change from day to day"),
	untested("L1-4", "orders are checked against the options", "said in full by L1-15"),
	rule("L1-5", "an order mirrors the request"),
	rule("L1-6", "order ids are random UUIDs"),
	rule("L1-7", "the token is mirrored, an absent one as \"\""),
	rule("L1-8", "`created_at`"),
	rule("L1-9", "`order_state`: CREATED, COMPLETED, FAILED"),
	rule("L1-10", "each payment option has its state, end, fee and sum"),
	rule("L1-11", "a hold invoice for the sum, which ends with the order"),
	untested("L1-12", "a BOLT12 offer for the sum", "optional; not offered, so the field is absent"),
	rule("L1-13", "without a refund address there is no on-chain option"),
	rule("L1-14", "the on-chain option: a segwit address of its own, and its confirmations"),
	rule("L1-15", "outside the options: 100 and the option's name"),
	rule("L1-16", "an invalid field: -32602 and its name"),
	rule("L1-17", "nothing of a channel can be ordered for nothing"),
	rule("L1-18", "tokens are checked: 102"),
	rule("L1-19", "`lsps1.get_order`; 101 for an unknown one"),
	rule("L1-20", "another client's order is unknown"),
	rule("L1-21", "asking again changes nothing; ordering again is another order"),
	rule("L1-22", "orders survive reconnections and restarts"),
	rule("L1-23", "HOLD while a Lightning payment is held"),
	rule("L1-24", "the channel as ordered: size, push, confirmations, announcement, feerate; waits for its peer"),
	rule("L1-25", "PAID and COMPLETED with the channel, its funding and the end of its lease"),
	rule("L1-26", "failed or late: the payment goes back, REFUNDED and FAILED"),
	rule("L1-27", "on-chain payments count when confirmed, or at once above `min_fee_for_0conf`"),
	rule("L1-28", "on-chain refunds, their fee raised after six hours"),
	rule("L1-29", "no service after the end of an order; late payments go back"),
	rule("L1-30", "a leased channel is not closed before its end"),
	rule("L1-31", "unpaid orders are bounded"),
	untested("L1-32", "orders may share a funding transaction", "optional; each channel has its own"),
];

const LSPS2: &[Rule] = &[
	rule("L2-1", "`lsps2.get_info` gives a menu, which may be empty"),
	rule("L2-2", "an entry has exactly eight fields"),
	rule("L2-3", "an offer holds for ten minutes or more"),
	rule("L2-4", "each entry is dearer than the one before"),
	rule("L2-5", "a promise is at most 512 printable characters"),
	rule("L2-6", "a promise commits to all fields and cannot be forged: 201"),
	rule("L2-7", "past `valid_until`: 201"),
	rule("L2-8", "a bad token: 200"),
	rule("L2-9", "`lsps2.buy` gives a SCID, a CLTV delta and who trusts whom"),
	rule("L2-10", "the payment's size may be fixed or left open"),
	rule("L2-11", "a size out of bounds: 202 or 203"),
	rule("L2-12", "an opening fee that eats the payment: 202; the fee as in the specification"),
	rule("L2-13", "an overflow: 203"),
	rule("L2-14", "what cannot be funded: 203"),
	rule("L2-15", "the terms are read strictly"),
	rule("L2-16", "each request has a SCID of its own"),
	rule("L2-17", "a promise is bound to its client"),
	rule("L2-18", "unpaid requests are bounded"),
	rule("L2-19", "parts are gathered for 90 s from the first, then failed and forgotten"),
	rule("L2-20", "nothing is held past `valid_until`"),
	rule("L2-21", "the channel is opened only in time, for the whole sum, to a client that is here"),
	rule("L2-22", "no more is counted than what arrived"),
	rule("L2-23", "a payment of open size bears its fee alone, or fails"),
	rule("L2-24", "the channel: large enough, private, alias, delay, 0-conf"),
	rule("L2-25", "a refused or broken opening fails the parts"),
	rule("L2-26", "if we trust the client, the funding is broadcast at once"),
	rule("L2-27", "every forward is above the smallest HTLC, and together they lose the fee only"),
	rule("L2-28", "a paid channel lives as long as promised"),
	rule("L2-29", "the SCID is an alias of the channel until `valid_until`"),
	rule("L2-30", "who trusts whom is said at `buy`"),
	rule("L2-31", "a channel that we lost is opened anew before going on"),
	rule("L2-32", "repeated ids and hasty disconnects lock nobody out"),
];

const LSPS5: &[Rule] = &[
	rule("L5-1", "`lsps5.set_webhook`"),
	rule("L5-2", "it inserts or replaces, at the limit too"),
	rule("L5-3", "`no_change` for the same name and URL only"),
	rule("L5-4", "`lsps5.list_webhooks`"),
	rule("L5-5", "`lsps5.remove_webhook`"),
	rule("L5-6", "an unknown name: 1010"),
	rule("L5-7", "a name beyond 64 bytes: 500"),
	rule("L5-8", "a URL beyond 1,024 characters: 500"),
	rule("L5-9", "what is no URL: 501"),
	rule("L5-10", "what is not https: 502"),
	rule("L5-11", "too many: 503 with `max_webhooks`"),
	rule("L5-12", "webhooks belong to a node id"),
	rule("L5-13", "durable before the answer"),
	rule("L5-14", "kept for ever with a channel, and seven days without"),
	rule("L5-15", "`webhook_registered` first, to the new webhook only"),
	rule("L5-16", "clients that are away are told of payments, expiries, liquidity and onion messages"),
	rule("L5-17", "HTTPS POST, signed and stamped"),
	rule("L5-18", "200 is success; redirects are not followed"),
	rule("L5-19", "these methods never go over Lightning"),
	rule("L5-20", "no second notice of a kind within minutes while the client is away"),
	rule("L5-21", "a URL that is not ASCII is refused"),
	rule("L5-22", "strangers are accepted, or refused with a code of the protocol's own"),
	rule("L5-23", "no calls to private hosts; calls are bounded"),
];

const RISKS: &[Rule] = &[
	rule("R1", "an opening fails after its HTLC was intercepted"),
	rule("R2", "the client rejects or holds the HTLC of the channel that was opened for it"),
	rule("R3", "probes open channels"),
	rule("R4", "a 0-conf funding is evicted, or spent by our own wallet"),
	rule("R5", "an unconfirmed payment is double-spent"),
	rule("R6", "an order is paid and its channel never opens"),
	rule("R7", "the feerate jumps between quote and opening"),
	rule("R8", "peers disagree on feerates"),
	rule("R9", "cooperative closes overpay"),
	rule("R10", "the anchor reserve is exhausted"),
	untested("R11", "capital idles in channels", "not built yet: nothing is taken back from idle channels"),
	rule("R12", "a restart in the middle"),
	rule("R13", "power is lost while the store writes"),
	rule("R14", "floods, and requests to hosts that are none of theirs"),
	rule("R15", "the first HTLC is larger than a small channel carries"),
	rule("R16", "slow jamming"),
	rule("R17", "two copies of one node"),
	rule("R18", "an LDK that lacks the fixes of 0.2.5"),
	rule("R19", "a reorganisation"),
	rule("R20", "a chain view that is stalled or wrong"),
];
