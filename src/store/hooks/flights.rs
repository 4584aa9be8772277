//! Reading through: who waits for keys that the app is asked for.
//!
//! A key that is missing is asked for once, however many want it (a *flight*); whoever wants it waits for it to land, for
//! a bounded time. What lands is stored like any client's value, so that it is expired, evicted, saved and replicated
//! like one, and the waiting commands then run as they would have.

use std::collections::BTreeMap;

use super::super::commands::{Command, CommandId, table};
use super::super::session::State;
use super::super::{Args, CommandError, Session, Store, meter};
use super::{Nudge, Wanted};
use crate::limits::{MISS_FLIGHT_MS, MISS_FLIGHTS_MAX, MISS_WAIT_MS, MISS_WAITERS_MAX};

/// A key that the app is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Names the flight; [`Store::land`] wants it back.
    pub number: u64,
    /// Where.
    pub database: u8,
    /// The key.
    pub key: Vec<u8>,
}

/// What the app says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// There is no such thing.
    Nothing,
    /// It is a string.
    Text(Vec<u8>),
    /// It is a hash: fields and values in turn.
    Hash(Vec<Vec<u8>>),
    /// It couldn't be found out; the line of an error.
    Failed(Vec<u8>),
}

/// Told when all of the keys are there, or why they aren't. Not while the store is held.
pub type OnLanded = Box<dyn FnOnce(Result<(), Vec<u8>>) + Send>;

/// Who waits.
enum Waiter {
    /// A client, in the wait of that number.
    Client(u64),
    /// Somebody in this process.
    Caller(OnLanded),
}

/// One that waits for some keys.
struct Group {
    /// Keys that haven't landed.
    left: usize,
    waiter: Waiter,
}

struct Flight {
    place: (u8, Vec<u8>),
    started_ms: u64,
    groups: Vec<u64>,
}

/// All that is on its way.
#[derive(Default)]
pub(super) struct Flights {
    by_place: BTreeMap<(u8, Vec<u8>), u64>,
    by_number: BTreeMap<u64, Flight>,
    groups: BTreeMap<u64, Group>,
    /// Flights that the app hasn't taken yet.
    fresh: Vec<u64>,
    last: u64,
}

/// Whether `on_miss` serves the command.
pub(in crate::store) fn asks(row: &Command) -> bool {
    matches!(row.name, "get" | "getex" | "mget" | "hgetall")
}

/// The keys that such a command reads.
fn keys_of<'a>(row: &Command, args: Args<'a>) -> Args<'a> {
    if row.name == "mget" { args.from(1) } else { args.from(1).first(1) }
}

const TOO_MUCH: CommandError =
    CommandError::Text("ERR on_miss has too much to do: too many keys are asked for; try again");

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn take_asked(&mut self) -> Vec<Asked> {
        let fresh = std::mem::take(&mut self.fresh).into_iter();
        let asked = fresh.filter_map(|number| {
            let (database, key) = self.by_number.get(&number)?.place.clone();
            Some(Asked { number, database, key })
        });
        asked.collect()
    }

    /// Asks for keys; gives the waiter back if there are too many already.
    fn ask(
        &mut self,
        places: Vec<(u8, Vec<u8>)>,
        waiter: Waiter,
        now_ms: u64,
    ) -> Result<(), Waiter> {
        let fresh = places.iter().filter(|place| !self.by_place.contains_key(*place)).count();
        if self.by_number.len() + fresh > MISS_FLIGHTS_MAX || self.groups.len() >= MISS_WAITERS_MAX
        {
            return Err(waiter);
        }
        self.last += 1;
        let group = self.last;
        self.groups.insert(group, Group { left: places.len(), waiter });
        for place in places {
            let number = match self.by_place.get(&place) {
                Some(number) => *number,
                None => self.start(place, now_ms),
            };
            if let Some(flight) = self.by_number.get_mut(&number) {
                flight.groups.push(group);
            }
        }
        Ok(())
    }

    fn start(&mut self, place: (u8, Vec<u8>), now_ms: u64) -> u64 {
        self.last += 1;
        let number = self.last;
        self.by_place.insert(place.clone(), number);
        self.by_number.insert(number, Flight { place, started_ms: now_ms, groups: Vec::new() });
        self.fresh.push(number);
        number
    }

    /// Takes a flight out, and those for whom it was the last one; all of them if it failed.
    fn end(&mut self, number: u64, failed: bool) -> Option<(Flight, Vec<Waiter>)> {
        let flight = self.by_number.remove(&number)?;
        self.by_place.remove(&flight.place);
        let mut over = Vec::new();
        for id in &flight.groups {
            let Some(group) = self.groups.get_mut(id) else { continue };
            group.left -= 1;
            if (group.left == 0 || failed)
                && let Some(group) = self.groups.remove(id)
            {
                over.push(group.waiter);
            }
        }
        Some((flight, over))
    }

    /// Flights that nobody has heard of for long.
    fn overdue(&self, now_ms: u64) -> Vec<u64> {
        let late = |flight: &Flight| now_ms.saturating_sub(flight.started_ms) >= MISS_FLIGHT_MS;
        self.by_number
            .iter()
            .filter(|(_, flight)| late(flight))
            .map(|(number, _)| *number)
            .collect()
    }
}

impl Store {
    /// Whether a reading command waits for keys that the app is asked for.
    #[cold]
    pub(in crate::store) fn ask(
        &mut self,
        session: &mut Session,
        id: CommandId,
        args: Args<'_>,
        hash: u64,
    ) -> Result<bool, CommandError> {
        let missing = self.missing(session.database, keys_of(table().row(id), args).iter());
        if missing.is_empty() {
            return Ok(false);
        }
        if session.row.is_none() {
            session.state.set(State::MISSED, true);
            return Ok(true);
        }
        let Some(wait) = self.instance.wait_for_app(session, (id, args, hash), MISS_WAIT_MS) else {
            return Ok(false);
        };
        if self.start_flights(missing, Waiter::Client(wait)).is_ok() {
            return Ok(true);
        }
        self.abandon(session);
        session.end_wait();
        Err(TOO_MUCH)
    }

    /// Asks the app for those of the keys that are missing, for a caller in this process.
    pub fn ask_for(&mut self, database: u8, keys: &[&[u8]], on_landed: OnLanded) {
        let missing = self.missing(database, keys.iter().copied());
        if missing.is_empty() || !self.instance.hooks.wants(Wanted::MISS) {
            meter::outside(|| {
                let nudge: Nudge = Box::new(move || on_landed(Ok(())));
                self.instance.nudges.push(nudge);
            });
        } else if let Err(Waiter::Caller(on_landed)) =
            self.start_flights(missing, Waiter::Caller(on_landed))
        {
            meter::outside(|| {
                let nudge: Nudge = Box::new(move || on_landed(Err(TOO_MUCH.line().to_vec())));
                self.instance.nudges.push(nudge);
            });
        }
    }

    /// Those of the keys that aren't there, each once.
    fn missing<'a>(
        &mut self,
        database: u8,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<(u8, Vec<u8>)> {
        let now_ms = self.now_ms;
        let mut missing = Vec::new();
        for key in keys {
            let hash = self.keyspace.hash(key);
            if !self.keyspace.database(database).contains(key, hash, now_ms) {
                missing.push((database, key.to_vec()));
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Gives the waiter back if there is too much to do.
    fn start_flights(&mut self, missing: Vec<(u8, Vec<u8>)>, waiter: Waiter) -> Result<(), Waiter> {
        self.end_overdue_flights();
        let now_ms = self.now_ms;
        let hooks = &mut self.instance.hooks;
        let before = hooks.flights.last;
        if let Err(waiter) = hooks.flights.ask(missing, waiter, now_ms) {
            hooks.figures.refused += 1;
            return Err(waiter);
        }
        hooks.figures.asked += hooks.flights.last - before - 1;
        meter::outside(|| hooks.tell(Wanted::MISS, &mut self.instance.nudges));
        Ok(())
    }

    /// The app's answer for a key, with its time to live in milliseconds: it is stored if the key is still missing, and
    /// whoever waited for it goes on.
    pub fn land(&mut self, number: u64, landing: Landing, ttl_ms: Option<u64>) {
        let Some(flight) = self.instance.hooks.flights.by_number.get(&number) else { return };
        let (database, key) = flight.place.clone();
        let at_ms = ttl_ms.map(|ttl_ms| self.now_ms.saturating_add(ttl_ms).to_string());
        let at_ms = at_ms.as_deref().map(str::as_bytes);
        let hash = self.keyspace.hash(&key);
        let now_ms = self.now_ms;
        let is_there = self.keyspace.database(database).contains(&key, hash, now_ms);
        let outcome = match &landing {
            Landing::Failed(line) => Err(line.clone()),
            Landing::Nothing => Ok(()),
            _ if is_there => Ok(()),
            Landing::Text(value) => {
                let mut words: Vec<&[u8]> = vec![b"SET", &key, value];
                words.extend(at_ms.into_iter().flat_map(|at_ms| [&b"PXAT"[..], at_ms]));
                self.run_landed(database, &words)
            }
            Landing::Hash(pairs) => {
                let words = [&b"HSET"[..], &key].into_iter();
                let words: Vec<&[u8]> = words.chain(pairs.iter().map(Vec::as_slice)).collect();
                let made = self.run_landed(database, &words);
                made.and_then(|()| match at_ms {
                    Some(at_ms) => self.run_landed(database, &[b"PEXPIREAT", &key, at_ms]),
                    None => Ok(()),
                })
            }
        };
        self.end_flight(number, &outcome);
    }

    /// Runs a command that no hook hears of; the line of its error.
    fn run_landed(&mut self, database: u8, words: &[&[u8]]) -> Result<(), Vec<u8>> {
        let mut session = Session::new(self.instance.clients.next_id());
        session.database = database;
        session.state.set(State::QUIET, true);
        let mut args = super::super::ArgsBuffer::default();
        args.extend(words.iter().copied());
        let id = table().resolve(args.args());
        let hash = table().key_hash(id, args.args(), &self.keyspace.hasher());
        let (mut out, now_ms) = (Vec::new(), self.now_ms);
        self.execute(&mut session, id, args.args(), hash, now_ms, &mut out);
        match out.strip_prefix(b"-") {
            Some(line) => Err(line.strip_suffix(b"\r\n").unwrap_or(line).to_vec()),
            None => Ok(()),
        }
    }

    fn end_flight(&mut self, number: u64, outcome: &Result<(), Vec<u8>>) {
        let Some((_, over)) = self.instance.hooks.flights.end(number, outcome.is_err()) else {
            return;
        };
        for waiter in over {
            match waiter {
                Waiter::Client(wait) => self.go_on_landed(wait, outcome),
                Waiter::Caller(on_landed) => meter::outside(|| {
                    let outcome = outcome.clone();
                    let nudge: Nudge = Box::new(move || on_landed(outcome));
                    self.instance.nudges.push(nudge);
                }),
            }
        }
    }

    fn go_on_landed(&mut self, wait: u64, outcome: &Result<(), Vec<u8>>) {
        match outcome {
            Ok(()) => self.run_waiting(wait),
            Err(line) => self.refuse_waiting(wait, line),
        }
    }

    /// Flights of which the app has said nothing for long have failed; another may be started.
    pub(in crate::store) fn end_overdue_flights(&mut self) {
        if self.instance.hooks.flights.len() == 0 {
            return;
        }
        let outcome = Err(b"ERR on_miss took too long".to_vec());
        for number in self.instance.hooks.flights.overdue(self.now_ms) {
            self.end_flight(number, &outcome);
        }
    }

    /// Nobody answers any more: what is missing is missing.
    pub(super) fn end_flights(&mut self) {
        let numbers: Vec<u64> = self.instance.hooks.flights.by_number.keys().copied().collect();
        for number in numbers {
            self.end_flight(number, &Ok(()));
        }
    }
}
