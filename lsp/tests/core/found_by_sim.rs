//! What the seeded simulation found (`cargo sim`), as small as it gets.

use crate::harness::*;
use inlet_lsp::book::SaleState;
use inlet_lsp::input::Input;

/// Seed 1058: LDK's word that payment 1 failed comes once more after a crash, when payment 2, which pays in its place, is held
/// again. It was taken for payment 2's failure, and payment 3 lost the fee as well.
#[test]
fn r2_r12_a_failure_that_is_told_again_is_not_that_of_the_payment_that_is_held() {
	let mut sim = Sim::new();
	sim.connect(node(1));
	let sale = sim.buy(node(1), Some(30_000_000));
	let fee = sale.fee.unwrap().0;
	let open = opened(&sim.htlc(&sale, 1, 1, 30_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	assert_eq!(forwards(&sim.ready(node(1), open.user_channel_id)), [(1, 30_000_000 - fee)]);
	let failed = Input::ForwardFailed { peer: node(1), channel_id: channel_id(open.user_channel_id), by_client: true };
	sim.give(failed.clone());
	assert_eq!(forwards(&sim.htlc(&sale, 2, 2, 30_000_000)), [(2, 30_000_000 - fee)]);

	// Neither the forward nor that the event was handled is on LDK's disk.
	sim.restart();
	sim.give(Input::Started);
	assert_eq!(forwards(&sim.htlc(&sale, 2, 2, 30_000_000)), []);
	sim.give(failed);
	assert_eq!(sim.sale(&sale).state, SaleState::Forwarded);
	sim.htlc(&sale, 3, 3, 30_000_000);
	assert_eq!(forwards(&sim.connect(node(1))), [(2, 30_000_000 - fee)], "payment 3 waits, whole");
	assert_eq!(forwards(&sim.settle(&sale, fee, "2")), [(3, 30_000_000)]);
}
