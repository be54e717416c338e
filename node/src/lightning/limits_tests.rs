use super::*;
use bitcoin::secp256k1::{Secp256k1, SecretKey};

const LIMITS: PeerLimits = PeerLimits { max_per_ip: 20, max_per_local_ip: 1_000, max_strangers: 3 };
const STRANGER: Judged = Judged { standing: Standing::Stranger, counted: true };
const PROMISED: Judged = Judged { standing: Standing::Promised, counted: true };
const CLIENT: Judged = Judged { standing: Standing::Client, counted: false };

fn peer(n: u8) -> PublicKey {
	PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[n; 32]).unwrap())
}

fn ip(text: &str) -> IpAddr {
	text.parse().unwrap()
}

/// A table, and a clock that is moved by hand.
fn table() -> (Table, Instant) {
	(Table::new(LIMITS), Instant::now())
}

fn entered(table: &mut Table, from: &str, now: Instant) -> LineId {
	table.enter(ip(from), now).unwrap().0
}

#[test]
fn r14_one_address_has_so_many_connections_and_no_more() {
	let (mut table, now) = table();
	let mut ids = Vec::new();
	for n in 0..20 {
		let id = entered(&mut table, "203.0.113.7", now);
		table.shaken(id, peer(n + 1), now);
		ids.push(id);
	}
	assert_eq!(table.enter(ip("203.0.113.7"), now), Err(Refused::Address));
	assert_eq!(table.enter(ip("::ffff:203.0.113.7"), now), Err(Refused::Address), "the same in other words");
	entered(&mut table, "203.0.113.8", now);
	table.leave(ids[3], now);
	table.leave(ids[3], now);
	entered(&mut table, "203.0.113.7", now);
	assert_eq!(table.enter(ip("203.0.113.7"), now), Err(Refused::Address));
	assert_eq!(table.inbound, 21);
}

#[test]
fn r14_an_ipv6_network_of_one_customer_is_one_address() {
	let (mut table, now) = table();
	for n in 0..20u8 {
		let id = entered(&mut table, &format!("2001:db8:1:2:{n:x}::1"), now);
		table.shaken(id, peer(n + 1), now);
	}
	assert_eq!(table.enter(ip("2001:db8:1:2:ffff::9"), now), Err(Refused::Address));
	entered(&mut table, "2001:db8:1:3::1", now);
}

#[test]
fn r14_an_address_that_stands_for_many_has_its_own_limit() {
	for local in [
		"127.0.0.1",
		"::1",
		"10.1.2.3",
		"192.168.1.9",
		"100.64.0.1",
		"100.127.9.9",
		"fd00::1",
		"fe80::1",
		"169.254.1.1",
	] {
		assert!(is_local(network(ip(local))), "{local}");
	}
	for public in ["203.0.113.7", "100.63.0.1", "100.128.0.1", "2001:db8::1", "172.32.0.1", "11.0.0.1"] {
		assert!(!is_local(network(ip(public))), "{public}");
	}
	let (mut table, now) = table();
	for _ in 0..LIMITS.max_per_local_ip {
		entered(&mut table, "127.0.0.1", now);
		assert!(table.shaking.len() <= MAX_HANDSHAKES);
	}
	assert_eq!(table.enter(ip("127.0.0.1"), now), Err(Refused::Address));
}

#[test]
fn r14_handshakes_are_few_and_the_slow_make_room() {
	let (mut table, now) = table();
	let first = entered(&mut table, "203.0.113.1", now);
	for _ in 1..MAX_HANDSHAKES_PER_IP {
		entered(&mut table, "203.0.113.1", now);
	}
	assert_eq!(table.enter(ip("203.0.113.1"), now), Err(Refused::Handshakes));
	let done = entered(&mut table, "203.0.113.2", now);
	table.shaken(done, peer(1), now);
	for n in MAX_HANDSHAKES_PER_IP..MAX_HANDSHAKES {
		assert_eq!(table.enter(ip(&format!("198.51.{}.{}", n / 250, n % 250)), now).unwrap().1, None);
	}
	let (late, slow) = table.enter(ip("192.0.2.1"), now).unwrap();
	assert_eq!(slow, Some(first), "not the one whose handshake is through");
	table.leave(first, now);
	table.shaken(late, peer(2), now);
	table.shaken(late, peer(2), now);
	assert_eq!(table.enter(ip("192.0.2.1"), now).unwrap().1, None, "there is room again, and no more than that");
	assert!(table.enter(ip("192.0.2.1"), now).unwrap().1.is_some());
}

#[test]
fn r14_a_flood_of_handshakes_ends_its_own() {
	let floods: [fn(usize) -> String; 3] = [
		|_| "127.0.0.1".to_owned(),
		|n| format!("2001:db8:1:{:x}::1", n / MAX_HANDSHAKES_PER_IP),
		|n| format!("203.0.113.{}", n / MAX_HANDSHAKES_PER_IP),
	];
	for flood in floods {
		let (mut table, now) = table();
		let honest: Vec<_> = (0..20).map(|n| entered(&mut table, &format!("11.0.0.{n}"), now)).collect();
		let mut ended = Vec::new();
		for n in 0..MAX_HANDSHAKES {
			let Ok((_, slow)) = table.enter(ip(&flood(n)), now) else { panic!("refused: {}", flood(n)) };
			if let Some(slow) = slow {
				table.leave(slow, now);
				ended.push(slow);
			}
		}
		assert_eq!(ended.len(), 20, "{}", flood(0));
		assert!(ended.iter().all(|id| !honest.contains(id)), "{}", flood(0));
		let slow = table.enter(ip("198.51.100.1"), now).unwrap().1.unwrap();
		assert!(!honest.contains(&slow), "nor does who comes later end an honest one: {}", flood(0));
	}
}

#[test]
fn r14_who_has_begun_its_handshake_is_not_ended_for_who_is_silent() {
	let (mut table, now) = table();
	let ids: Vec<_> = (0..MAX_HANDSHAKES).map(|_| entered(&mut table, "127.0.0.1", now)).collect();
	for id in &ids[..MAX_HANDSHAKES - 1] {
		table.heard(*id);
	}
	let (late, slow) = table.enter(ip("127.0.0.1"), now).unwrap();
	assert_eq!(slow, Some(ids[MAX_HANDSHAKES - 1]), "the only silent one");
	table.leave(ids[MAX_HANDSHAKES - 1], now);
	table.heard(late);
	assert_eq!(table.enter(ip("127.0.0.1"), now).unwrap().1, Some(ids[0]), "all have begun: the oldest");
}

#[test]
fn r14_who_sends_too_much_waits_as_long_as_it_is_too_much() {
	let (mut table, start) = table();
	let id = entered(&mut table, "127.0.0.1", start);
	let burst = SHARE.burst as usize;
	assert_eq!(table.charge(id, burst, start), None);
	let until = table.charge(id, 2 * SHARE.each_second as usize, start).unwrap();
	assert_eq!(until - start, Duration::from_secs(2));
	assert_eq!(table.charge(id, 0, until).unwrap() - until, Duration::from_secs(1) / 64, "an empty message costs, too");
	let later = start + Duration::from_secs(3_600);
	assert_eq!(table.charge(id, burst, later), None, "all of it is back, and no more than that");
	assert!(table.charge(id, LEAST_COST, later).is_some());
}

#[test]
fn r14_coming_back_does_not_give_an_address_more() {
	let (mut table, now) = table();
	let mut sent = 0;
	let waits = loop {
		let id = entered(&mut table, "203.0.113.1", now);
		let wait = table.charge(id, SHARE.burst as usize, now);
		table.leave(id, now);
		sent += SHARE.burst;
		if let Some(until) = wait {
			break until > now;
		}
		assert!(sent <= SHARE_PER_IP.burst, "it may go on for ever");
	};
	assert!(waits);
	let other = entered(&mut table, "203.0.113.2", now);
	assert_eq!(table.charge(other, SHARE.burst as usize, now), None);
}

#[test]
fn r14_what_is_remembered_of_addresses_is_bounded() {
	let (mut table, now) = table();
	for n in 0..3 * MAX_ADDRESSES as u32 {
		let id = table.enter(IpAddr::V4((0x0b00_0000 + n).into()), now).unwrap().0;
		table.charge(id, 1, now);
		table.leave(id, now);
		assert!(table.addresses.len() <= MAX_ADDRESSES);
	}
	assert_eq!((table.inbound, table.shaking.len(), table.entries.len()), (0, 0, 0));
}

#[test]
fn r14_connections_are_bounded_in_all() {
	let mut table = Table::new(PeerLimits { max_per_local_ip: usize::MAX, ..LIMITS });
	let now = Instant::now();
	for _ in 0..MAX_INBOUND {
		let id = entered(&mut table, "127.0.0.1", now);
		table.shaken(id, peer(1), now);
	}
	assert_eq!(table.enter(ip("127.0.0.1"), now), Err(Refused::Full));
	assert!(table.leave_for(now).is_ok(), "those that we make are ours to bound");
}

#[test]
fn r14_the_longest_idle_stranger_goes_and_never_a_client() {
	let (mut table, start) = table();
	let at = |secs| start + Duration::from_secs(secs);
	let mut ids = Vec::new();
	for n in 0..7u8 {
		let id = entered(&mut table, "127.0.0.1", at(n.into()));
		table.shaken(id, peer(n + 1), at(n.into()));
		ids.push(id);
	}
	entered(&mut table, "127.0.0.1", at(8));
	let ours = table.leave_for(at(0)).unwrap();
	table.shaken(ours, peer(99), at(0));
	table.charge(ids[1], 10, at(60));
	// 0 is a client and 2 was promised something; 1 has just asked for something.
	let judged = |table: &Table| {
		let standing = |peer_: PublicKey| match peer_ {
			p if p == peer(1) => CLIENT,
			p if p == peer(3) => PROMISED,
			_ => STRANGER,
		};
		let crowd: Vec<_> = table.crowd(true, at(70)).into_iter().map(|(id, peer)| (id, standing(peer))).collect();
		assert_eq!(crowd.len(), 8);
		table.surplus(&crowd, at(70))
	};
	let expected = [ids[3], ids[4], ids[5], ids[6]];
	assert_eq!(
		judged(&table),
		expected,
		"the one that asked and the one that was promised stay; ours shares no address"
	);
	table.leave(ours, at(70));
	for id in &ids[3..7] {
		table.leave(*id, at(70));
	}
	assert!(table.crowd(true, at(70)).is_empty(), "nobody is judged while there is room");
}

#[test]
fn r14_who_proposes_a_channel_is_no_client_and_takes_one_of_the_places() {
	let cases = [
		(Known::default(), Standing::Stranger, true),
		(Known { promised: true, ..Known::default() }, Standing::Promised, true),
		(Known { channel: true, ..Known::default() }, Standing::Promised, true),
		(Known { awaited: true, ..Known::default() }, Standing::Client, true),
		(Known { kept: true, promised: true, ..Known::default() }, Standing::Client, true),
		(Known { channel: true, backed_channel: true, ..Known::default() }, Standing::Client, false),
	];
	for (known, standing, counted) in cases {
		assert_eq!(Judged::from(known), Judged { standing, counted }, "{known:?}");
	}
}

/// `lines` of them, each judged by its place, and how many of LDK's places are taken once the surplus has gone.
fn places_left_taken(lines: usize, judge: impl Fn(usize) -> Judged) -> usize {
	let mut table = Table::new(PeerLimits { max_strangers: 200, ..LIMITS });
	let now = Instant::now();
	for n in 0..lines {
		let id = entered(&mut table, &format!("11.0.{}.{}", n / 250, n % 250), now);
		table.shaken(id, peer(1), now);
	}
	let crowd: Vec<_> = table.crowd(true, now).into_iter().enumerate().map(|(n, (id, _))| (id, judge(n))).collect();
	let gone = table.surplus(&crowd, now);
	crowd.iter().filter(|(id, judged)| judged.counted && !gone.contains(id)).count()
}

#[test]
fn r14_two_hundred_and_fifty_places_are_never_all_taken_by_who_paid_nothing() {
	let proposed = Judged::from(Known { channel: true, ..Known::default() });
	assert_eq!(places_left_taken(250, |n| if n < 50 { proposed } else { STRANGER }), 200);
	let kept = Judged::from(Known { kept: true, ..Known::default() });
	assert_eq!(places_left_taken(250, |n| if n < 50 { kept } else { STRANGER }), 200, "clients take places, too");
	assert_eq!(places_left_taken(450, |n| if n < 250 { CLIENT } else { STRANGER }), 200, "but not with a channel");
}

/// A table with room for 200 strangers, and the judgements of those inside.
struct Crowd {
	table: Table,
	judged: Vec<(LineId, Judged)>,
}

impl Crowd {
	fn new() -> Crowd {
		Crowd { table: Table::new(PeerLimits { max_strangers: 200, ..LIMITS }), judged: Vec::new() }
	}

	fn come(&mut self, from: &str, judged: Judged, at: Instant) -> LineId {
		let id = entered(&mut self.table, from, at);
		self.table.shaken(id, peer(1), at);
		self.judged.push((id, judged));
		id
	}

	fn surplus(&self, at: Instant) -> Vec<LineId> {
		self.table.surplus(&self.judged, at)
	}
}

#[test]
fn r14_free_promises_shut_out_no_newcomer() {
	let (mut crowd, start) = (Crowd::new(), Instant::now());
	let promised: Vec<_> = (0..200).map(|n| crowd.come(&format!("11.0.0.{n}"), PROMISED, start)).collect();
	let later = start + Duration::from_secs(60);
	for id in &promised[..100] {
		crowd.table.charge(*id, 1, later);
	}
	let newcomer = crowd.come("203.0.113.1", STRANGER, later);
	assert_eq!(crowd.surplus(later), [promised[100]], "promises beyond the half of the places count for nothing");
	let late: Vec<_> = (0..99).map(|n| crowd.come(&format!("12.0.0.{n}"), STRANGER, later)).collect();
	assert_eq!(crowd.surplus(later), promised[100..], "and the newest are those that stay");
	crowd.come("203.0.113.2", STRANGER, later);
	let gone = crowd.surplus(later);
	assert!(gone.contains(&newcomer) && !gone.contains(&late[0]) && !gone.contains(&promised[0]), "half stays theirs");
}

#[test]
fn r14_who_has_just_come_stays_a_while() {
	let (mut crowd, start) = (Crowd::new(), Instant::now());
	let later = start + Duration::from_secs(100);
	let busy: Vec<_> = (0..200).map(|n| crowd.come(&format!("11.0.0.{n}"), STRANGER, start)).collect();
	let newcomer = crowd.come("203.0.113.1", STRANGER, later);
	for id in &busy {
		crowd.table.charge(*id, 1, later + Duration::from_secs(20));
	}
	assert_eq!(crowd.surplus(later + NEWCOMER - Duration::from_secs(1)), [busy[0]]);
	assert_eq!(crowd.surplus(later + NEWCOMER), [newcomer]);
}

#[test]
fn r14_a_flood_from_one_address_costs_that_address() {
	for flood in ["203.0.113.1", "127.0.0.1", "2001:db8:7:FLOOD::1"] {
		let (mut crowd, start) = (Crowd::new(), Instant::now());
		crowd.table.limits.max_per_ip = 1_000;
		let honest: Vec<_> = (0..150).map(|n| crowd.come(&format!("11.0.0.{n}"), STRANGER, start)).collect();
		for n in 0..110 {
			crowd.come(&flood.replace("FLOOD", &n.to_string()), STRANGER, start + Duration::from_secs(1));
		}
		let gone = crowd.surplus(start + Duration::from_secs(100));
		assert_eq!(gone.len(), 60);
		assert!(gone.iter().all(|id| !honest.contains(id)), "{flood}");
	}
}

#[test]
fn r14_who_comes_and_goes_does_not_hold_up_its_neighbours() {
	let (mut table, now) = table();
	let client = entered(&mut table, "203.0.113.1", now);
	table.shaken(client, peer(1), now);
	let stranger = entered(&mut table, "203.0.113.1", now);
	table.shaken(stranger, peer(2), now);
	for _ in 0..10_000 {
		let id = entered(&mut table, "203.0.113.1", now);
		table.charge(id, 65_533, now);
		table.leave(id, now);
	}
	let held = table.charge(stranger, 1, now).expect("the address has used up its share");
	assert!(held - now <= LONGEST_HOLD, "held for {:?}", held - now);
	assert_eq!(table.crowd(false, now), [(client, peer(1)), (stranger, peer(2))], "judged though they are few");
	table.judged(&[(client, CLIENT), (stranger, STRANGER)]);
	assert_eq!(table.charge(client, 1, now), None, "its channels do not wait for others");
	assert!(table.charge(stranger, 1, now).is_some());
	assert!(table.crowd(false, now + Duration::from_secs(3_600)).is_empty());
}

#[test]
fn r14_an_address_is_not_full_of_idle_strangers_for_ever() {
	for (address, most) in [("203.0.113.1", 20), ("127.0.0.1", 40)] {
		let (start, mut crowd) = (Instant::now(), Crowd::new());
		crowd.table.limits = PeerLimits { max_per_local_ip: 40, ..crowd.table.limits };
		crowd.come("203.0.113.9", STRANGER, start);
		let ids: Vec<_> = (0..most)
			.map(|n| match n {
				0 => crowd.come(address, CLIENT, start),
				1 => crowd.come(address, PROMISED, start),
				_ => crowd.come(address, STRANGER, start),
			})
			.collect();
		assert_eq!(crowd.table.enter(ip(address), start), Err(Refused::Address));
		assert_eq!(crowd.table.crowd(false, start).len(), most, "all of that address and no others");
		assert!(crowd.table.idle(&crowd.judged, start).is_empty(), "they have just come");
		let later = start + NEWCOMER;
		crowd.table.charge(ids[2], 1, later);
		let gone = crowd.table.idle(&crowd.judged, later);
		assert_eq!(gone, ids[3..3 + most / 4], "a quarter is free again");
		for id in gone {
			crowd.table.leave(id, later);
		}
		assert!(
			crowd.table.idle(&crowd.judged, later + NEWCOMER).is_empty() && crowd.table.crowd(false, later).is_empty()
		);
	}
}

#[test]
fn r12_nobody_comes_while_the_node_stops() {
	let (mut table, now) = table();
	let id = entered(&mut table, "203.0.113.1", now);
	table.shut();
	assert_eq!(table.enter(ip("203.0.113.1"), now), Err(Refused::Stopping));
	assert_eq!(table.leave_for(now), Err(Refused::Stopping));
	table.leave(id, now);
	assert!(table.is_shut() && table.entries.is_empty());
}
