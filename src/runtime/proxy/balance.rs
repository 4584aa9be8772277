//! Which backend is next: who may be chosen, and the strategies.
//!
//! Candidates are looked for in rounds, and the first round that finds one decides: those in good standing; backups in
//! good standing; those whose circuit is open, for when all have failed it is better to ask than to refuse unasked.
//! Whoever an operator or a check has taken out is in none of them.
//! Must not know: connections, what is spoken.

use super::backends::{Backends, Member};
use super::shared::{Admin, Standing};
use crate::ring::random::Random;
use crate::runtime::Strategy;

/// What is known of whoever looks for a backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The name that its backends share; nothing for all.
    pub group: Option<&'a str>,
    /// Backends that have failed it.
    pub tried: &'a [u32],
    /// For strategies that keep what is alike together.
    pub hash: u64,
    /// The mark of the backend that it sticks to.
    pub mark: Option<u64>,
}

/// How to choose, and what to consider.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How.
    pub strategy: Strategy,
    /// Requests at one backend at a time; 0 for no limit.
    pub most: u32,
    /// How long a backend that is back is spared, in milliseconds.
    pub slow_start_ms: u64,
    /// On the monotonic clock.
    pub now_ms: u64,
}

/// Why nobody is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// All that could be are full: one of them will have room.
    Full,
    /// There is none.
    None,
}

#[derive(Clone, Copy, PartialEq)]
enum Round {
    Good,
    Backup,
    Desperate,
}

/// The place in the list of the backend to ask.
///
/// # Errors
/// There is none, or none now.
pub fn choose(
    backends: &mut Backends,
    ask: &Ask<'_>,
    rules: &Rules,
    random: &mut Random,
) -> Result<usize, Nobody> {
    if let Some(mark) = ask.mark
        && let Some(at) = stuck(backends, mark, ask, rules)
    {
        return Ok(at);
    }
    let mut is_full = false;
    for round in [Round::Good, Round::Backup, Round::Desperate] {
        let mut candidates = std::mem::take(&mut backends.candidates);
        candidates.clear();
        for (at, member) in backends.members.iter().enumerate() {
            if is_candidate(member, round, ask, rules) {
                let has_room = rules.most == 0 || member.shared.in_flight() < rules.most;
                is_full |= !has_room;
                if has_room {
                    candidates.push(at);
                }
            }
        }
        let chosen = pick(backends, &candidates, ask, rules, random);
        backends.candidates = candidates;
        if let Some(at) = chosen {
            backends.members[at].shared.asked(rules.now_ms);
            return Ok(at);
        }
        if is_full {
            return Err(Nobody::Full);
        }
    }
    Err(Nobody::None)
}

fn is_asked(member: &Member, ask: &Ask<'_>) -> bool {
    !ask.tried.contains(&member.serial)
        && ask.group.is_none_or(|group| member.backend.name == group)
}

/// The one that a client sticks to, unless it can't serve: a draining one still does.
fn stuck(backends: &Backends, mark: u64, ask: &Ask<'_>, rules: &Rules) -> Option<usize> {
    let at = backends.members.iter().position(|member| member.mark == mark)?;
    let member = &backends.members[at];
    let is_served = match member.shared.admin() {
        Admin::Up => member.shared.standing(rules.now_ms) == Standing::Good,
        Admin::Drain => !member.shared.is_down(),
        Admin::Maintenance => false,
    };
    let has_room = rules.most == 0 || member.shared.in_flight() < rules.most;
    (is_asked(member, ask) && is_served && has_room && !member.backend.addresses.is_empty())
        .then_some(at)
}

fn is_candidate(member: &Member, round: Round, ask: &Ask<'_>, rules: &Rules) -> bool {
    if !is_asked(member, ask) {
        return false;
    }
    let standing = member.shared.standing(rules.now_ms);
    match round {
        // One whose name isn't known yet is asked last: its dial fails at once.
        _ if member.backend.addresses.is_empty() => {
            round == Round::Desperate && standing != Standing::Out
        }
        Round::Good => standing == Standing::Good && !member.backend.backup,
        Round::Backup => standing == Standing::Good,
        Round::Desperate => standing != Standing::Out,
    }
}

/// What a backend counts for now, in hundredths: less at the start.
fn weight(member: &Member, rules: &Rules) -> u64 {
    let whole = u64::from(member.shared.weight().unwrap_or(member.backend.weight)) * 100;
    let since_ms = member.shared.since_ms();
    if rules.slow_start_ms == 0 || since_ms == 0 {
        return whole;
    }
    let passed_ms = rules.now_ms.saturating_sub(since_ms).min(rules.slow_start_ms);
    (whole * passed_ms / rules.slow_start_ms).max(whole / 10).max(1)
}

fn pick(
    backends: &mut Backends,
    candidates: &[usize],
    ask: &Ask<'_>,
    rules: &Rules,
    random: &mut Random,
) -> Option<usize> {
    let members = &mut backends.members;
    match candidates {
        [] => return None,
        [one] => return Some(*one),
        _ => {}
    }
    match rules.strategy {
        Strategy::RoundRobin | Strategy::Lua => {
            // Each saves its weight up; the richest pays for all. So heavy ones come often and spread out.
            let mut total = 0;
            for at in candidates {
                let weight = weight(&members[*at], rules) as i64;
                members[*at].credit += weight;
                total += weight;
            }
            // The first of the richest.
            let best = candidates.iter().copied().rev().max_by_key(|at| members[*at].credit)?;
            members[best].credit -= total;
            Some(best)
        }
        Strategy::Random => by_weight(members, candidates, rules, random),
        Strategy::TwoChoices => {
            let one = by_weight(members, candidates, rules, random)?;
            let other = by_weight(members, candidates, rules, random)?;
            let is_lighter = load(&members[other], rules) < load(&members[one], rules);
            Some(if is_lighter { other } else { one })
        }
        Strategy::LeastConnections => {
            backends.turn = backends.turn.wrapping_add(1);
            let turn = backends.turn % candidates.len();
            let order = candidates[turn..].iter().chain(&candidates[..turn]).copied();
            order.min_by_key(|at| load(&members[*at], rules))
        }
        Strategy::Latency => {
            backends.turn = backends.turn.wrapping_add(1);
            let turn = backends.turn % candidates.len();
            let order = candidates[turn..].iter().chain(&candidates[..turn]).copied();
            order.min_by_key(|at| {
                // One that was never asked is asked first.
                u128::from(members[*at].shared.latency_us()) * load(&members[*at], rules)
            })
        }
        Strategy::Hash => {
            // The highest of all draws wins (rendezvous hashing): a backend that leaves takes only its own keys along.
            let draw = |at: &usize| {
                let member = &members[*at];
                let mixed = mix(ask.hash ^ member.mark);
                let unit = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
                -(weight(member, rules) as f64) / unit.ln()
            };
            candidates.iter().copied().max_by(|one, other| draw(one).total_cmp(&draw(other)))
        }
    }
}

fn by_weight(
    members: &[Member],
    candidates: &[usize],
    rules: &Rules,
    random: &mut Random,
) -> Option<usize> {
    let total: u64 = candidates.iter().map(|at| weight(&members[*at], rules)).sum();
    let mut left = random.below(total.max(1));
    for at in candidates {
        let weight = weight(&members[*at], rules);
        if left < weight {
            return Some(*at);
        }
        left -= weight;
    }
    candidates.last().copied()
}

/// What a backend would have to do if it got one more, by its weight.
fn load(member: &Member, rules: &Rules) -> u128 {
    u128::from(member.shared.in_flight() + 1) * 1_000_000 / u128::from(weight(member, rules).max(1))
}

/// A number for bytes, the same everywhere and always.
pub fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a, whose low bits are weak, and then mixed.
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// Spreads every bit over all (the finish of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::proxy::settings::Circuit;
    use crate::runtime::{Backend, RuntimeStats};

    /// Backends named by their address, with weights; a minus before it: a backup.
    fn backends(weights: &[i32]) -> Backends {
        let placed: Vec<Backend> = weights
            .iter()
            .enumerate()
            .map(|(at, weight)| Backend {
                name: format!("b{at}"),
                address: format!("10.0.0.{at}:80"),
                addresses: vec![std::net::SocketAddr::from(([10, 0, 0, at as u8], 80)).into()],
                weight: weight.unsigned_abs(),
                backup: *weight < 0,
                strategy: None,
            })
            .collect();
        let mut backends = Backends::default();
        backends.take(&placed, &RuntimeStats::new(1));
        backends
    }

    fn rules(strategy: Strategy) -> Rules {
        Rules { strategy, most: 0, slow_start_ms: 0, now_ms: 1000 }
    }

    /// How often each is chosen.
    fn counts(backends: &mut Backends, rules: &Rules, times: u64) -> Vec<u64> {
        let mut random = Random::new(7);
        let mut counts = vec![0; backends.members.len()];
        for key in 0..times {
            let ask = Ask { hash: hash(&key.to_be_bytes()), ..Ask::default() };
            counts[choose(backends, &ask, rules, &mut random).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_is_exact_and_spread_out() {
        let mut three = backends(&[1, 1, 1]);
        let mut random = Random::new(1);
        let rules = rules(Strategy::RoundRobin);
        let mut next = |b: &mut Backends| choose(b, &Ask::default(), &rules, &mut random).unwrap();
        let order: Vec<usize> = (0..6).map(|_| next(&mut three)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        let mut weighted = backends(&[5, 1, 1]);
        let order: Vec<usize> = (0..7).map(|_| next(&mut weighted)).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn weights_are_kept_by_chance_and_by_hash() {
        for strategy in [Strategy::Random, Strategy::Hash] {
            let counts = counts(&mut backends(&[1, 2, 1]), &rules(strategy), 8000);
            for (count, expected) in counts.iter().zip([2000, 4000, 2000]) {
                assert!(count.abs_diff(expected) < 300, "{strategy:?}: {counts:?}");
            }
        }
    }

    /// What is hashed stays where it is when others come and go.
    #[test]
    fn a_backend_that_leaves_takes_only_its_own_keys_along() {
        let mut random = Random::new(1);
        let rules = rules(Strategy::Hash);
        let mut all = backends(&[1, 1, 1, 1]);
        let mut at = |backends: &mut Backends, key: u64, tried: &[u32]| {
            let ask = Ask { hash: hash(&key.to_be_bytes()), tried, ..Ask::default() };
            choose(backends, &ask, &rules, &mut random).unwrap()
        };
        let gone = all.members[2].serial;
        for key in 0..1000 {
            let before = at(&mut all, key, &[]);
            let after = at(&mut all, key, &[gone]);
            assert!(before == 2 || before == after, "{key}: {before} {after}");
            assert_ne!(after, 2);
        }
    }

    #[test]
    fn the_least_loaded_gets_the_next() {
        for strategy in [Strategy::LeastConnections, Strategy::TwoChoices, Strategy::Latency] {
            let mut two = backends(&[1, 1]);
            two.members.iter().for_each(|member| member.shared.answered(100));
            let seats: Vec<_> = (0..20).map(|_| two.members[0].shared.take(0)).collect();
            let counts = counts(&mut two, &rules(strategy), 100);
            // Of two choices both may be the same one.
            assert!(counts[1] >= if strategy == Strategy::TwoChoices { 60 } else { 100 });
            drop(seats);
        }
    }

    #[test]
    fn latency_prefers_the_faster_one() {
        let mut two = backends(&[1, 1]);
        two.members[0].shared.answered(5000);
        two.members[1].shared.answered(100);
        assert_eq!(counts(&mut two, &rules(Strategy::Latency), 50), [0, 50]);
    }

    #[test]
    fn backups_serve_when_nobody_else_does() {
        let mut random = Random::new(1);
        let rules = rules(Strategy::RoundRobin);
        let mut backends = backends(&[1, -1]);
        let mut at = |b: &mut Backends| choose(b, &Ask::default(), &rules, &mut random);
        assert_eq!(at(&mut backends), Ok(0));
        backends.members[0].shared.set_admin(Admin::Maintenance, 0);
        assert_eq!(at(&mut backends), Ok(1));
        backends.members[1].shared.checked(false, 1, 1, 0);
        assert_eq!(at(&mut backends), Err(Nobody::None));
        backends.members[0].shared.set_admin(Admin::Up, 0);
        assert_eq!(at(&mut backends), Ok(0));
    }

    /// All circuits open: refusing unasked would make one bad minute of a single backend's two.
    #[test]
    fn when_all_have_failed_they_are_asked_anyway() {
        let mut random = Random::new(1);
        let rules = rules(Strategy::RoundRobin);
        let circuit = Circuit { failures: 1, open_ms: 60_000 };
        let mut backends = backends(&[1, 1]);
        let mut at = |b: &mut Backends| choose(b, &Ask::default(), &rules, &mut random);
        backends.members[0].shared.failed(circuit, 1000);
        assert_eq!([at(&mut backends), at(&mut backends)], [Ok(1), Ok(1)]);
        backends.members[1].shared.failed(circuit, 1000);
        assert!(at(&mut backends).is_ok());
    }

    #[test]
    fn full_backends_are_told_from_none() {
        let mut random = Random::new(1);
        let rules = Rules { most: 1, ..rules(Strategy::RoundRobin) };
        let mut one = backends(&[1]);
        let seat = one.members[0].shared.take(1);
        let mut at = |b: &mut Backends| choose(b, &Ask::default(), &rules, &mut random);
        assert_eq!(at(&mut one), Err(Nobody::Full));
        drop(seat);
        assert_eq!(at(&mut one), Ok(0));
        assert_eq!(at(&mut Backends::default()), Err(Nobody::None));
    }

    #[test]
    fn a_client_sticks_to_a_draining_backend_but_nobody_new_comes() {
        let mut random = Random::new(1);
        let rules = rules(Strategy::RoundRobin);
        let mut two = backends(&[1, 1]);
        let mark = Some(two.members[0].mark);
        two.members[0].shared.set_admin(Admin::Drain, 0);
        let mut at = |b: &mut Backends, mark| {
            choose(b, &Ask { mark, ..Ask::default() }, &rules, &mut random)
        };
        assert_eq!(
            [at(&mut two, mark), at(&mut two, None), at(&mut two, None)],
            [Ok(0), Ok(1), Ok(1)]
        );
        two.members[0].shared.set_admin(Admin::Maintenance, 0);
        assert_eq!(at(&mut two, mark), Ok(1));
    }

    #[test]
    fn one_that_is_back_is_spared_at_first() {
        let mut two = backends(&[1, 1]);
        two.members[0].shared.set_admin(Admin::Drain, 0);
        two.members[0].shared.set_admin(Admin::Up, 1000);
        let slow = Rules { slow_start_ms: 10_000, ..rules(Strategy::Random) };
        let early = counts(&mut two, &slow, 1000);
        assert!(early[0] < 150, "{early:?}");
        let late = counts(&mut two, &Rules { now_ms: 20_000, ..slow }, 1000);
        assert!(late[0] > 400, "{late:?}");
    }
}
