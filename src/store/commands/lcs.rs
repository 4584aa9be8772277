//! LCS: the longest common subsequence of two strings, by the usual table of prefixes.

use super::collection::{integer, is};
use super::{Call, CommandResult};
use crate::limits::STRING_BYTES_MAX;
use crate::store::{Args, CommandError, Reply};

#[derive(Default)]
struct Options {
    len: bool,
    indexes: bool,
    with_length: bool,
    length_min: i64,
}

/// A stretch that both strings have, by first and last index in each.
struct Match {
    left: (usize, usize),
    right: (usize, usize),
}

pub(super) fn lcs(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let right_hash = keyspace.hash(args.at(2));
    let database = keyspace.database(session.database);
    const NOT_STRINGS: CommandError =
        CommandError::Text("ERR The specified keys must contain string values");
    let left = database.string(args.at(1), *hash, *now_ms).map_err(|_| NOT_STRINGS)?;
    let left = left.map_or(Vec::new(), |text| text.to_vec());
    let right = database.string(args.at(2), right_hash, *now_ms).map_err(|_| NOT_STRINGS)?;
    let right = right.map_or(Vec::new(), |text| text.to_vec());
    let options = parse(args.from(3))?;
    let table = Lengths::new(&left, &right)?;
    answer(&table, &left, &right, &options, reply);
    Ok(())
}

fn parse(args: Args<'_>) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut rest = args.iter();
    while let Some(option) = rest.next() {
        if is(option, "idx") {
            options.indexes = true;
        } else if is(option, "len") {
            options.len = true;
        } else if is(option, "withmatchlen") {
            options.with_length = true;
        } else if is(option, "minmatchlen") {
            let value = rest.next().ok_or(CommandError::Syntax)?;
            options.length_min = integer(value)?.max(0);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if options.indexes && options.len {
        const BOTH: &str = "ERR If you want both the length and indexes, please just use IDX.";
        return Err(CommandError::Text(BOTH));
    }
    Ok(options)
}

/// The length of the longest common subsequence of every pair of prefixes.
struct Lengths {
    cells: Vec<u32>,
    width: usize,
}

impl Lengths {
    fn new(left: &[u8], right: &[u8]) -> Result<Lengths, CommandError> {
        let width = right.len() + 1;
        let count = (left.len() + 1).saturating_mul(width);
        if count.saturating_mul(size_of::<u32>()) > STRING_BYTES_MAX {
            return Err(CommandError::Text(
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        let mut lengths = Lengths { cells: vec![0; count], width };
        for (row, left) in left.iter().enumerate() {
            for (column, right) in right.iter().enumerate() {
                let length = if left == right {
                    lengths.at(row, column) + 1
                } else {
                    lengths.at(row, column + 1).max(lengths.at(row + 1, column))
                };
                lengths.cells[(row + 1) * width + column + 1] = length;
            }
        }
        Ok(lengths)
    }

    fn at(&self, left: usize, right: usize) -> u32 {
        self.cells[left * self.width + right]
    }
}

fn answer(table: &Lengths, left: &[u8], right: &[u8], options: &Options, reply: &mut Reply<'_>) {
    let length = table.at(left.len(), right.len());
    if options.len {
        return reply.integer(i64::from(length));
    }
    let (subsequence, matches) = trace(table, left, right);
    if !options.indexes {
        return reply.bulk(&subsequence);
    }
    let span = |found: &Match| (found.left.1 - found.left.0 + 1) as i64;
    let shown: Vec<&Match> =
        matches.iter().filter(|found| span(found) >= options.length_min).collect();
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown.len());
    for found in shown {
        reply.array(if options.with_length { 3 } else { 2 });
        for (first, last) in [found.left, found.right] {
            reply.array(2);
            reply.integer(first as i64);
            reply.integer(last as i64);
        }
        if options.with_length {
            reply.integer(span(found));
        }
    }
    reply.bulk(b"len");
    reply.integer(i64::from(length));
}

/// Walks back from the end, as Redis does: so its matches come from last to first.
fn trace(table: &Lengths, left: &[u8], right: &[u8]) -> (Vec<u8>, Vec<Match>) {
    let (mut row, mut column) = (left.len(), right.len());
    let mut subsequence = Vec::new();
    let mut matches: Vec<Match> = Vec::new();
    while row > 0 && column > 0 {
        if left[row - 1] == right[column - 1] {
            row -= 1;
            column -= 1;
            subsequence.push(left[row]);
            match matches.last_mut() {
                Some(last) if last.left.0 == row + 1 && last.right.0 == column + 1 => {
                    last.left.0 = row;
                    last.right.0 = column;
                }
                _ => matches.push(Match { left: (row, row), right: (column, column) }),
            }
        } else if table.at(row - 1, column) > table.at(row, column - 1) {
            row -= 1;
        } else {
            column -= 1;
        }
    }
    subsequence.reverse();
    (subsequence, matches)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_resp3};

    #[test]
    fn lcs() {
        check(&[
            ("mset a ohmytext b mynewtext", "+OK"),
            ("lcs a b", "$6 mytext"),
            ("lcs a b len", ":6"),
            ("lcs a b idx", "*4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6"),
            (
                "lcs a b idx minmatchlen 4 withmatchlen",
                "*4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6",
            ),
            ("lcs a none", "$0"),
            (
                "lcs a b idx len",
                "-ERR If you want both the length and indexes, please just use IDX.",
            ),
            ("lcs a b bad", "-ERR syntax error"),
            ("rpush l x", ":1"),
            ("lcs a l", "-ERR The specified keys must contain string values"),
        ]);
        check_resp3(&[
            ("mset a xa b ya", "+OK"),
            ("lcs a b idx", "%2 $7 matches *1 *2 *2 :1 :1 *2 :1 :1 $3 len :1"),
        ]);
    }
}
