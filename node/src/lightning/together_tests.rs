use super::*;
use bitcoin::ScriptBuf;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use inlet_lsp::input::Owner;
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use lightning::ln::types::ChannelId;

const BATCH: u128 = 99;

fn peer() -> PublicKey {
	PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[9; 32]).unwrap())
}

fn open(id: u128) -> OpenChannel {
	OpenChannel {
		owner: Owner::Order(id.to_string()),
		user_channel_id: id,
		peer: peer(),
		capacity: Sat(100_000),
		push: Msat::ZERO,
		announce: false,
		confirmations: 1,
		max_to_self_delay: None,
		feerate: FeePerKw(1_000),
		withhold: false,
		batch: Some(BATCH),
	}
}

fn wanted(id: u128) -> Wanted {
	let temporary = ChannelId([7; 32]);
	Wanted { temporary, peer: peer(), user_channel_id: id, script: ScriptBuf::new(), value: 100_000 }
}

fn funding() -> Txid {
	Txid::from_byte_array([5; 32])
}

fn asked(ids: &[u128]) -> Together {
	let together = Together::default();
	let channels: Vec<OpenChannel> = ids.iter().map(|id| open(*id)).collect();
	assert!(together.begin(BATCH, &channels) && !together.begin(BATCH, &channels), "once");
	together
}

fn accepted(together: &Together, id: u128) -> Option<Vec<u128>> {
	match together.accepted(wanted(id)) {
		Gathered::Ready(ready) => Some(of(ready)),
		Gathered::Waits => None,
		Gathered::Alone(_) => panic!("it is one of several"),
	}
}

fn of(ready: Ready) -> Vec<u128> {
	ready.wanted.iter().map(|one| one.user_channel_id).collect()
}

fn dropped(together: &Together, id: u128) -> Option<Result<Vec<u128>, Dissolved>> {
	match together.dropped(id) {
		Dropped::Nothing => None,
		Dropped::Ready(ready) => Some(Ok(of(ready))),
		Dropped::Dissolved(dissolved) => Some(Err(dissolved)),
	}
}

fn all() -> Dissolved {
	Dissolved { batch: BATCH, funding: funding(), channels: vec![1, 2] }
}

/// Two whose transaction is made.
fn made() -> Together {
	let together = asked(&[1, 2]);
	assert_eq!(accepted(&together, 1), None);
	assert_eq!(accepted(&together, 2), Some(vec![1, 2]));
	assert!(together.made(BATCH, funding()));
	together
}

#[test]
fn a_transaction_is_made_once_when_all_that_are_left_have_accepted() {
	assert!(matches!(asked(&[1]).accepted(wanted(2)), Gathered::Alone(_)));
	let together = asked(&[1, 2, 3]);
	assert_eq!(accepted(&together, 2), None);
	assert_eq!(dropped(&together, 1), None);
	assert_eq!(dropped(&together, 3), Some(Ok(vec![2])), "nobody else is waited for");
	assert!(!together.contains(1) && together.contains(2));
	let together = asked(&[1]);
	assert_eq!(dropped(&together, 1), None);
	assert!(!together.contains(1));
}

#[test]
fn who_does_not_answer_in_time_is_left_out() {
	let together = asked(&[1, 2, 3]);
	accepted(&together, 1);
	accepted(&together, 3);
	let hurried = together.hurry(BATCH);
	assert_eq!((hurried.left_out, hurried.ready.map(of)), (vec![2], Some(vec![1, 3])));
	assert_eq!(together.hurry(BATCH).left_out, [] as [u128; 0], "while it is made");
	let silent = asked(&[1, 2]);
	let hurried = silent.hurry(BATCH);
	assert!(hurried.left_out == [1, 2] && hurried.ready.is_none() && !silent.contains(1));
}

#[test]
fn a_transaction_is_broadcast_when_the_last_has_signed_and_never_after_its_end() {
	let together = made();
	assert_eq!(together.signed(2), None);
	assert_eq!(together.signed(2), None, "told again");
	assert!(!together.broadcast(funding(), || panic!("one has not signed")));
	assert_eq!(together.signed(1), Some((funding(), vec![1, 2])));
	assert!(!together.broadcast(funding(), || false), "it could not be handed over");
	assert!(together.contains(1));
	assert!(together.broadcast(funding(), || true));
	assert_eq!((dropped(&together, 1), together.discard(funding())), (None, None), "it is out");
	assert!(!together.broadcast(funding(), || panic!("once")));

	for end in [Together::discard, |together: &Together, _| match together.dropped(1) {
		Dropped::Dissolved(dissolved) => Some(dissolved),
		_ => None,
	}] {
		let together = made();
		together.signed(1);
		together.signed(2);
		assert_eq!(end(&together, funding()), Some(all()));
		assert_eq!(end(&together, funding()), None, "once");
		assert!(!together.broadcast(funding(), || panic!("it is given up")));
		assert!(together.contains(2), "until its coins are free");
		together.forget(BATCH);
		assert!(!together.contains(2));
	}
}

#[test]
fn who_does_not_sign_in_time_ends_it_for_all() {
	let together = made();
	together.signed(1);
	assert_eq!(together.hurry(BATCH).dissolved, None, "it may have been made a moment ago");
	assert_eq!(together.hurry(BATCH).dissolved, Some(all()));
	assert_eq!(together.hurry(BATCH).dissolved, None);
	assert_eq!(together.signed(2), None, "too late");
}

#[test]
fn a_channel_that_ends_while_the_transaction_is_made_keeps_it_from_being_used() {
	let together = asked(&[1, 2]);
	accepted(&together, 1);
	accepted(&together, 2);
	assert_eq!(dropped(&together, 1), None);
	assert!(!together.made(BATCH, funding()));
	assert!(!together.broadcast(funding(), || panic!("it is given up")));
}

#[test]
fn what_an_earlier_run_made_goes_on_or_ends() {
	let together = Together::default();
	together.take_up(BATCH, funding(), &[1, 2], true);
	assert_eq!(together.signed(1), None, "LDK says so once more after a crash");
	assert!(together.contains(2) && together.broadcast(funding(), || true));
	together.take_up(BATCH, funding(), &[1, 2], false);
	assert!(together.contains(2) && !together.broadcast(funding(), || panic!("LDK has not all of them")));
}
