//! The list of an append log's files, as Redis 7 writes it: one line each, `file NAME seq NUMBER type b|i|h`.
//!
//! `b` is the base, the data as they were once; `i` are increments, commands since then in order; `h` are files that are no
//! longer needed. Names with blanks or quotes stand in quotes; ours never do.

/// A file's part in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Base,
    Increment,
    History,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Without a folder.
    pub name: String,
    /// Grows with every new file of its part.
    pub number: u64,
    pub part: Part,
}

/// All lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub lines: Vec<Line>,
}

impl Manifest {
    /// Reads a manifest's text.
    ///
    /// # Errors
    /// The line that isn't one, and why.
    pub fn parse(text: &str) -> Result<Manifest, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Result<Vec<Line>, String> = lines.map(parse_line).collect();
        let manifest = Manifest { lines: lines? };
        let bases = manifest.lines.iter().filter(|line| line.part == Part::Base).count();
        if bases > 1 { Err("it names more than one base".to_owned()) } else { Ok(manifest) }
    }

    /// The text of it.
    pub fn text(&self) -> String {
        let letter = |part| match part {
            Part::Base => 'b',
            Part::Increment => 'i',
            Part::History => 'h',
        };
        let lines = self.lines.iter();
        lines
            .map(|it| format!("file {} seq {} type {}\n", it.name, it.number, letter(it.part)))
            .collect()
    }

    /// The files of a part, in order.
    pub fn of(&self, part: Part) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.part == part)
    }

    /// The number for the next file of a part.
    pub fn next_number(&self, part: Part) -> u64 {
        self.of(part).map(|line| line.number).max().unwrap_or(0) + 1
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    let wrong = || format!("not a line of a manifest: {line:?}");
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let value = |key: &str| {
        let at = words.iter().step_by(2).position(|word| word.eq_ignore_ascii_case(key));
        at.and_then(|at| words.get(at * 2 + 1)).copied().ok_or_else(wrong)
    };
    let name = value("file")?.trim_matches('"');
    if name.is_empty() || name.contains('/') {
        return Err(wrong());
    }
    let part = match value("type")? {
        "b" => Part::Base,
        "i" => Part::Increment,
        "h" => Part::History,
        _ => return Err(wrong()),
    };
    let number = value("seq")?.parse().map_err(|_| wrong())?;
    Ok(Line { name: name.to_owned(), number, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_writes_is_read_and_written() {
        let text = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n\
            file appendonly.aof.2.incr.aof seq 2 type i\n";
        let manifest = Manifest::parse(text).expect("a manifest");
        assert_eq!(manifest.text(), text);
        assert_eq!(manifest.next_number(Part::Increment), 3);
        assert_eq!(manifest.of(Part::Base).count(), 1);
        let quoted = Manifest::parse("file \"a.aof\" seq 1 type h startoffset 7\n").expect("one");
        assert_eq!(quoted.lines[0].name, "a.aof");
    }

    #[test]
    fn other_lines_are_refused() {
        for text in [
            "file",
            "file a seq x type b",
            "file a seq 1 type z",
            "file ../a seq 1 type b",
            "seq 1 type b",
        ] {
            assert!(Manifest::parse(text).is_err(), "{text}");
        }
        let twice = "file a seq 1 type b\nfile b seq 2 type b\n";
        assert_eq!(Manifest::parse(twice), Err("it names more than one base".to_owned()));
    }
}
