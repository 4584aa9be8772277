//! Commands that search for members by position: inside a circle or a box, around a place or another member.

use super::collection::{READ, WRITE, database, found_at, integer, is};
use super::geo::{coordinates, distance, geo, position, unit};
use super::{Call, Command, CommandResult, Keys};
use crate::store::call::CommandError;
use crate::store::database::{Database, Expiry};
use crate::store::execute::until_nul;
use crate::store::geohash::{Position, Shape};
use crate::store::number::parse_double;
use crate::store::sorted_set::{Cut, SortedSet};
use crate::store::value::Value;
use crate::store::{Args, Reply, thresholds};
use std::ops::ControlFlow;

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    geo(("geosearch", -7), READ, Keys::ONE, ("6.2.0", "Returns members inside a circle or box"), geosearch),
    geo(("geosearchstore", -8), WRITE, Keys::TWO, ("6.2.0", "Stores members of another key that are inside a circle or box"), geosearchstore),
    geo(("georadius", -6), WRITE, Keys::ONE, ("3.2.0", "Returns or stores members inside a circle around a place"), georadius),
    geo(("georadius_ro", -6), READ, Keys::ONE, ("3.2.10", "Returns members inside a circle around a place"), georadius_ro),
    geo(("georadiusbymember", -5), WRITE, Keys::ONE, ("3.2.0", "Returns or stores members inside a circle around a member"), georadiusbymember),
    geo(("georadiusbymember_ro", -5), READ, Keys::ONE, ("3.2.10", "Returns members inside a circle around a member"), georadiusbymember_ro),
];

/// How a command says what it searches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEORADIUS: a place, then a radius.
    Place,
    /// GEORADIUSBYMEMBER: a member, then a radius.
    Member,
    /// GEOSEARCH: options.
    Options,
}

/// What to search and what to answer.
#[derive(Default)]
struct Search<'a> {
    middle: Option<Position>,
    /// The middle was said, but there is no key to find the member in.
    middle_is_moot: bool,
    shape: Option<Shape>,
    /// Meters of the unit.
    meters: f64,
    with_distance: bool,
    with_hash: bool,
    with_coordinates: bool,
    any: bool,
    count: Option<usize>,
    /// Whether the nearest or the farthest come first.
    ascending: Option<bool>,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

/// A member inside.
struct Hit {
    member: Vec<u8>,
    distance: f64,
    score: f64,
}

fn geosearch(call: &mut Call<'_>) -> CommandResult {
    search(call, Form::Options, false)
}

fn geosearchstore(call: &mut Call<'_>) -> CommandResult {
    search(call, Form::Options, true)
}

fn georadius(call: &mut Call<'_>) -> CommandResult {
    search(call, Form::Place, true)
}

fn georadius_ro(call: &mut Call<'_>) -> CommandResult {
    search(call, Form::Place, false)
}

fn georadiusbymember(call: &mut Call<'_>) -> CommandResult {
    search(call, Form::Member, true)
}

fn georadiusbymember_ro(call: &mut Call<'_>) -> CommandResult {
    search(call, Form::Member, false)
}

fn search(call: &mut Call<'_>, form: Form, stores: bool) -> CommandResult {
    let args = call.args;
    let key = args.at(if form == Form::Options && stores { 2 } else { 1 });
    let set = found_at(call, key, Database::sorted_set)?.map(|(set, _)| &*set);
    let search = Search::parse(args, set, form, stores)?;
    let Some(set) = set else {
        match search.store {
            Some(target) => store(call, target, &[], false),
            None => call.reply.array(0),
        }
        return Ok(());
    };
    let hits = search.hits(set);
    match search.store {
        Some(target) => store(call, target, &hits, search.store_distance),
        None => search.answer(&mut call.reply, &hits),
    }
    Ok(())
}

impl<'a> Search<'a> {
    fn parse(
        args: Args<'a>,
        set: Option<&SortedSet>,
        form: Form,
        stores: bool,
    ) -> Result<Search<'a>, CommandError> {
        let mut search = Search { meters: 1.0, ..Search::default() };
        let mut index = match form {
            Form::Place => {
                search.middle = Some(position(args.at(2), args.at(3))?);
                search.circle(args.at(4), args.at(5))?;
                6
            }
            Form::Member if set.is_none() => 5,
            Form::Member => {
                search.middle = Some(place_of(set, args.at(2))?);
                search.circle(args.at(3), args.at(4))?;
                5
            }
            Form::Options if stores => {
                search.store = Some(args.at(1));
                3
            }
            Form::Options => 2,
        };
        while index < args.len() {
            index += match form {
                Form::Options => search.shape_option(args.from(index), set)?,
                _ => search.store_option(args.from(index), stores),
            }
            .map_or_else(|| search.option(args.from(index), form, stores), Ok)?;
        }
        search.check(args, form)?;
        Ok(search)
    }

    /// An option that all have; how many words it takes.
    fn option(&mut self, rest: Args<'a>, form: Form, stores: bool) -> Result<usize, CommandError> {
        match rest.at(0) {
            option if is(option, "withdist") => self.with_distance = true,
            option if is(option, "withhash") => self.with_hash = true,
            option if is(option, "withcoord") => self.with_coordinates = true,
            option if is(option, "any") => self.any = true,
            option if is(option, "asc") => self.ascending = Some(true),
            option if is(option, "desc") => self.ascending = Some(false),
            option if is(option, "count") && rest.len() > 1 => {
                let count = usize::try_from(integer(rest.at(1))?).ok().filter(|count| *count > 0);
                self.count = Some(count.ok_or(CommandError::Text("ERR COUNT must be > 0"))?);
                return Ok(2);
            }
            option if is(option, "storedist") && form == Form::Options && stores => {
                self.store_distance = true;
            }
            _ => return Err(CommandError::Syntax),
        }
        Ok(1)
    }

    /// GEORADIUS's STORE and STOREDIST.
    fn store_option(&mut self, rest: Args<'a>, stores: bool) -> Option<usize> {
        let by_distance = is(rest.at(0), "storedist");
        if !stores || rest.len() < 2 || !(by_distance || is(rest.at(0), "store")) {
            return None;
        }
        self.store = Some(rest.at(1));
        self.store_distance = by_distance;
        Some(2)
    }

    /// GEOSEARCH's options for place and shape.
    fn shape_option(
        &mut self,
        rest: Args<'a>,
        set: Option<&SortedSet>,
    ) -> Result<Option<usize>, CommandError> {
        let option = rest.at(0);
        let by_member = self.middle_is_moot;
        if is(option, "frommember") && rest.len() > 1 && (self.middle.is_none() || by_member) {
            self.middle_is_moot = true;
            self.middle = Some(match set {
                Some(_) => place_of(set, rest.at(1))?,
                None => Position::default(),
            });
            return Ok(Some(2));
        }
        if is(option, "fromlonlat") && rest.len() > 2 && !by_member {
            self.middle = Some(position(rest.at(1), rest.at(2))?);
            return Ok(Some(3));
        }
        let is_box = matches!(self.shape, Some(Shape::Box { .. }));
        let is_circle = matches!(self.shape, Some(Shape::Circle { .. }));
        if is(option, "byradius") && rest.len() > 2 && !is_box {
            self.circle(rest.at(1), rest.at(2))?;
            return Ok(Some(3));
        }
        if is(option, "bybox") && rest.len() > 3 && !is_circle {
            self.rectangle(rest.at(1), rest.at(2), rest.at(3))?;
            return Ok(Some(4));
        }
        Ok(None)
    }

    fn circle(&mut self, radius: &[u8], text: &[u8]) -> CommandResult {
        let radius = parse_double(radius).ok_or(CommandError::Text("ERR need numeric radius"))?;
        if radius < 0.0 {
            return Err(CommandError::Text("ERR radius cannot be negative"));
        }
        self.meters = unit(text)?;
        self.shape = Some(Shape::Circle { radius: radius * self.meters });
        Ok(())
    }

    fn rectangle(&mut self, width: &[u8], height: &[u8], text: &[u8]) -> CommandResult {
        let width = parse_double(width).ok_or(CommandError::Text("ERR need numeric width"))?;
        let height = parse_double(height).ok_or(CommandError::Text("ERR need numeric height"))?;
        if width < 0.0 || height < 0.0 {
            return Err(CommandError::Text("ERR height or width cannot be negative"));
        }
        self.meters = unit(text)?;
        let (width, height) = (width * self.meters, height * self.meters);
        self.shape = Some(Shape::Box { width, height });
        Ok(())
    }

    fn check(&self, args: Args<'_>, form: Form) -> CommandResult {
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_coordinates) {
            let who = match form {
                Form::Options => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            let text = format!(
                "ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            );
            return Err(CommandError::Owned(text.into_bytes()));
        }
        let missing = match form {
            Form::Options if self.middle.is_none() => "FROMMEMBER or FROMLONLAT",
            Form::Options if self.shape.is_none() => "BYRADIUS and BYBOX",
            _ if self.any && self.count.is_none() => {
                return Err(CommandError::Text("ERR the ANY argument requires COUNT argument"));
            }
            _ => return Ok(()),
        };
        let name = args.at(0);
        let head = format!("ERR exactly one of {missing} can be specified for ");
        Err(CommandError::Owned([head.as_bytes(), until_nul(name, name.len())].concat()))
    }

    /// The members inside, in the order and number asked for.
    fn hits(&self, set: &SortedSet) -> Vec<Hit> {
        let (Some(middle), Some(shape)) = (self.middle, self.shape) else { return Vec::new() };
        let limit = self.count.filter(|_| self.any).unwrap_or(usize::MAX);
        let mut hits = Vec::new();
        for cell in shape.cells(middle) {
            if hits.len() >= limit {
                break;
            }
            let (low, high) = cell.scores();
            let first = set.rank(Cut::Score(low));
            let members = set.rank(Cut::Score(high)).saturating_sub(first);
            set.walk(first, members, false, |member, score| {
                if let Some(distance) = shape.distance(middle, Position::of_score(score)) {
                    hits.push(Hit { member: member.to_vec(), distance, score });
                }
                if hits.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        let nearest_first = self.count.filter(|_| !self.any).map(|_| true);
        match self.ascending.or(nearest_first) {
            Some(true) => hits.sort_by(|left, right| left.distance.total_cmp(&right.distance)),
            Some(false) => hits.sort_by(|left, right| right.distance.total_cmp(&left.distance)),
            None => {}
        }
        hits.truncate(self.count.unwrap_or(usize::MAX));
        hits.iter_mut().for_each(|hit| hit.distance /= self.meters);
        hits
    }

    fn answer(&self, reply: &mut Reply<'_>, hits: &[Hit]) {
        let extras = [self.with_distance, self.with_hash, self.with_coordinates];
        let extras = extras.into_iter().filter(|extra| *extra).count();
        reply.array(hits.len());
        for hit in hits {
            if extras > 0 {
                reply.array(extras + 1);
            }
            reply.bulk(&hit.member);
            if self.with_distance {
                distance(reply, hit.distance);
            }
            if self.with_hash {
                reply.integer(hit.score as i64);
            }
            if self.with_coordinates {
                coordinates(reply, Position::of_score(hit.score));
            }
        }
    }
}

fn place_of(set: Option<&SortedSet>, member: &[u8]) -> Result<Position, CommandError> {
    let score = set.and_then(|set| set.score(member));
    score
        .map(Position::of_score)
        .ok_or(CommandError::Text("ERR could not decode requested zset member"))
}

/// Makes the target a sorted set of the hits, or nothing if there are none.
fn store(call: &mut Call<'_>, target: &[u8], hits: &[Hit], by_distance: bool) {
    let hasher = call.keyspace.hasher();
    let hash = hasher.hash(target);
    let mut set = SortedSet::new();
    for hit in hits {
        let score = if by_distance { hit.distance } else { hit.score };
        set.insert(&hit.member, score, hasher, &thresholds::REDIS);
    }
    let now_ms = call.now_ms;
    if hits.is_empty() {
        let deleted = database(call).delete(target, hash, now_ms);
        call.keyspace.dirty += u64::from(deleted);
    } else {
        database(call).insert_value(target, hash, Value::SortedSet(Box::new(set)), Expiry::Clear);
        call.keyspace.dirty += hits.len() as u64;
    }
    call.reply.integer(hits.len() as i64);
}
