//! How much may wait for a client that doesn't read: Redis's `client-output-buffer-limit` by class.

use super::number::{memory_size, parse_integer};

/// The limits of all classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// Clients that ask and are answered.
    pub normal: Limit,
    /// Replicas.
    pub replica: Limit,
    /// Clients that listen to channels.
    pub pubsub: Limit,
}

/// What may wait for one client of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes that end the connection at once; 0: none do.
    pub hard_bytes: u64,
    /// Bytes that end it when they have waited for long; 0: none do.
    pub soft_bytes: u64,
    /// How long that is.
    pub soft_seconds: u64,
}

impl Default for OutputLimits {
    /// Redis's.
    fn default() -> OutputLimits {
        const MB: u64 = 1024 * 1024;
        let limit =
            |hard_bytes, soft_bytes, soft_seconds| Limit { hard_bytes, soft_bytes, soft_seconds };
        OutputLimits {
            normal: limit(0, 0, 0),
            replica: limit(256 * MB, 64 * MB, 60),
            pubsub: limit(32 * MB, 8 * MB, 60),
        }
    }
}

impl OutputLimits {
    /// Takes `class hard soft seconds`, any number of times; nothing changes when something is wrong.
    pub fn set(&mut self, text: &[u8]) -> Result<(), &'static str> {
        let words: Vec<&[u8]> =
            text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.");
        }
        let mut changed = *self;
        for class in words.chunks_exact(4) {
            let place = match class[0].to_ascii_lowercase().as_slice() {
                b"normal" => &mut changed.normal,
                b"slave" | b"replica" => &mut changed.replica,
                b"pubsub" => &mut changed.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration."),
            };
            let seconds = parse_integer(class[3]).and_then(|seconds| u64::try_from(seconds).ok());
            let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
                (memory_size(class[1]), memory_size(class[2]), seconds)
            else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
                );
            };
            *place = Limit { hard_bytes, soft_bytes, soft_seconds };
        }
        *self = changed;
        Ok(())
    }

    /// As CONFIG GET shows it.
    pub fn text(&self) -> Vec<u8> {
        let classes = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        let lines = classes.map(|(name, limit)| {
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        });
        lines.join(" ").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_shown() {
        let start = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        for (text, result, after) in [
            (
                "pubsub 1mb 1k 5",
                true,
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 1000 5",
            ),
            (
                "normal 1 2 3 replica 0 0 0",
                true,
                "normal 1 2 3 slave 0 0 0 pubsub 33554432 8388608 60",
            ),
            ("normal 1 2", false, start),
            ("normal 1 2 3 strange 1 2 3", false, start),
            ("normal 1 x 3", false, start),
            ("normal 1 2 -3", false, start),
            ("", false, start),
        ] {
            let mut limits = OutputLimits::default();
            assert_eq!(limits.set(text.as_bytes()).is_ok(), result, "{text}");
            assert_eq!(limits.text(), after.as_bytes(), "{text}");
        }
    }
}
