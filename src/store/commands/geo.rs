//! Commands on positions of members: adding them, where they are, how far apart. Searches stand in `geo_search.rs`.

use super::collection::{READ, Run, WRITE, found, is, row};
use super::{Call, Command, CommandResult, Flags, Keys, sorted_set};
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::geohash::Position;
use crate::store::number::parse_double;
use crate::store::{ArgsBuffer, Reply};

pub(super) const fn geo(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("geo", usage, flags, keys, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    geo(("geoadd", -5), WRITE, Keys::ONE, ("3.2.0", "Adds members at positions"), geoadd),
    geo(("geodist", -4), READ, Keys::ONE, ("3.2.0", "Returns the distance between two members"), geodist),
    geo(("geohash", -2), READ, Keys::ONE, ("3.2.0", "Returns members' positions as standard geohashes"), geohash),
    geo(("geopos", -2), READ, Keys::ONE, ("3.2.0", "Returns members' longitudes and latitudes"), geopos),
];

/// A longitude and a latitude.
pub(super) fn position(longitude: &[u8], latitude: &[u8]) -> Result<Position, CommandError> {
    let longitude = parse_double(longitude).ok_or(CommandError::NotFloat)?;
    let latitude = parse_double(latitude).ok_or(CommandError::NotFloat)?;
    let position = Position { longitude, latitude };
    if position.is_valid() {
        return Ok(position);
    }
    let text = format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}");
    Err(CommandError::Owned(text.into_bytes()))
}

/// Meters of a unit.
pub(super) fn unit(text: &[u8]) -> Result<f64, CommandError> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = units.into_iter().find(|(name, _)| is(text, name));
    found
        .map(|(_, meters)| meters)
        .ok_or(CommandError::Text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Writes a distance, with four decimals.
pub(super) fn distance(reply: &mut Reply<'_>, value: f64) {
    reply.bulk(format!("{value:.4}").as_bytes());
}

/// Writes longitude and latitude.
pub(super) fn coordinates(reply: &mut Reply<'_>, position: Position) {
    reply.array(2);
    for value in [position.longitude, position.latitude] {
        let text = format!("{value:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        reply.double_text(if text == "-0" { "0" } else { text });
    }
}

/// ZADD with scores for positions.
fn geoadd(call: &mut Call<'_>) -> CommandResult {
    let args = call.args;
    let mut index = 2;
    let (mut only_new, mut only_existing) = (false, false);
    while let Some(option) = args.get(index) {
        match option {
            _ if is(option, "nx") => only_new = true,
            _ if is(option, "xx") => only_existing = true,
            _ if is(option, "ch") => {}
            _ => break,
        }
        index += 1;
    }
    let places = args.from(index);
    if !places.len().is_multiple_of(3) || (only_new && only_existing) {
        return Err(CommandError::Syntax);
    }
    let mut zadd = ArgsBuffer::default();
    zadd.push(b"zadd");
    zadd.extend(args.from(1).first(index - 1).iter());
    for place in (0..places.len()).step_by(3) {
        let score = position(places.at(place), places.at(place + 1))?.score();
        zadd.push(itoa::Buffer::new().format(score as u64).as_bytes());
        zadd.push(places.at(place + 2));
    }
    let Call { keyspace, instance, session, hash, now_ms, reply, .. } = call;
    sorted_set::zadd(&mut Call {
        keyspace,
        instance,
        session,
        args: zadd.args(),
        hash: *hash,
        now_ms: *now_ms,
        reply: reply.reborrow(),
    })
}

fn geodist(call: &mut Call<'_>) -> CommandResult {
    let meters = match call.args.len() {
        4 => 1.0,
        5 => unit(call.args.at(4))?,
        _ => return Err(CommandError::Syntax),
    };
    let (set, args, reply) = found(call, Database::sorted_set)?;
    let place = |index: usize| {
        let score = set.as_ref()?.score(args.at(index))?;
        Some(Position::of_score(score))
    };
    match place(2).zip(place(3)) {
        Some((from, to)) => distance(reply, from.distance(to) / meters),
        None => reply.null(),
    }
    Ok(())
}

fn geohash(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::sorted_set)?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        match set.as_ref().and_then(|set| set.score(member)) {
            Some(score) => reply.bulk(&Position::of_score(score).text()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geopos(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::sorted_set)?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        match set.as_ref().and_then(|set| set.score(member)) {
            Some(score) => coordinates(reply, Position::of_score(score)),
            None => reply.null_array(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_resp3};

    const ADD: (&str, &str) =
        ("geoadd s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2");

    #[test]
    fn positions() {
        check(&[
            ADD,
            ("geoadd s nx ch 13.361389 38 Palermo", ":0"),
            ("geoadd s nx xx 1 1 a", "-ERR syntax error"),
            ("geoadd s 1 1", "-ERR wrong number of arguments for 'geoadd' command"),
            ("geoadd s 200 1 a", "-ERR invalid longitude,latitude pair 200.000000,1.000000"),
            ("geoadd s x 1 a", "-ERR value is not a valid float"),
            ("type s", "+zset"),
            ("geodist s Palermo Catania", "$11 166274.1516"),
            ("geodist s Palermo Catania KM", "$8 166.2742"),
            ("geodist s Palermo none", "$-1"),
            ("geodist s a b yard", "-ERR unsupported unit provided. please use M, KM, FT, MI"),
            ("geohash s Palermo none Catania", "*3 $11 sqc8b49rny0 $-1 $11 sqdtr74hyu0"),
            (
                "geopos s Palermo none",
                "*2 *2 $20 13.36138933897018433 $20 38.11555639549629859 *-1",
            ),
            ("geopos none a", "*1 *-1"),
        ]);
        check_resp3(&[
            ADD,
            ("geopos s Palermo none", "*2 *2 ,13.36138933897018433 ,38.11555639549629859 _"),
        ]);
    }

    #[test]
    fn searches() {
        check(&[
            ADD,
            (
                "georadius s 15 37 200 km withdist withcoord",
                "*2 *3 $7 Palermo $8 190.4424 *2 $20 13.36138933897018433 $20 38.11555639549629859 \
                 *3 $7 Catania $7 56.4413 *2 $20 15.08726745843887329 $20 37.50266842333162032",
            ),
            ("georadius s 15 37 200 km count 1", "*1 $7 Catania"),
            ("georadiusbymember s Palermo 100 km", "*1 $7 Palermo"),
            (
                "geosearch s fromlonlat 15 37 bybox 400 400 km asc withhash",
                "*2 *2 $7 Catania :3479447370796909 *2 $7 Palermo :3479099956230698",
            ),
            ("geosearchstore d s fromlonlat 15 37 byradius 200 km storedist", ":2"),
            (
                "zrange d 0 -1 withscores",
                "*4 $7 Catania $16 56.4412578701582 $7 Palermo $18 190.44242984775784",
            ),
            ("geosearchstore d s fromlonlat 0 0 byradius 1 m", ":0"),
            ("exists d", ":0"),
            (
                "geosearch s fromlonlat 15 37 asc count 1 any",
                "-ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch",
            ),
            (
                "georadius s 15 37 200 km withdist store d",
                "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ),
            ("georadius_ro s 15 37 200 km store d", "-ERR syntax error"),
            ("georadius s 15 37 200 km any", "-ERR the ANY argument requires COUNT argument"),
        ]);
    }
}
