//! A command's arguments as places in a buffer: nothing is allocated or copied to parse a command.

pub use crate::proto::resp::Span;

/// The arguments of one command, the command's name first.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    base: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments whose bytes lie in `base`. Every span must lie inside it.
    pub fn new(base: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        debug_assert!(spans.iter().all(|s| s.start as usize + s.len as usize <= base.len()));
        Args { base, spans }
    }

    /// The same arguments as a value of their own: for a call that passes them in memory, so that elsewhere they stay in
    /// registers.
    #[inline(always)]
    pub(super) fn apart(&self) -> Args<'a> {
        let Args { base, spans } = *self;
        Args { base, spans }
    }

    /// How many, the name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is not even a name.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index`; 0 is the name. Panics past the end, as a slice does: arity is checked before.
    pub fn at(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.base[span.start as usize..span.start as usize + span.len as usize]
    }

    /// Argument `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.spans.len()).then(|| self.at(index))
    }

    /// The arguments from `index` on.
    pub fn from(&self, index: usize) -> Args<'a> {
        Args { base: self.base, spans: &self.spans[index.min(self.spans.len())..] }
    }

    /// The first `count` arguments.
    pub fn first(&self, count: usize) -> Args<'a> {
        Args { base: self.base, spans: &self.spans[..count.min(self.spans.len())] }
    }

    /// All in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let Args { base, spans } = *self;
        spans.iter().map(move |s| &base[s.start as usize..s.start as usize + s.len as usize])
    }
}

/// Arguments that own their bytes: for callers whose arguments lie apart, and for commands that wait (MULTI).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArgsBuffer {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl ArgsBuffer {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Appends an argument. All together must stay below 4 GB; callers bound them.
    pub fn push(&mut self, argument: &[u8]) {
        self.spans.push(Span { start: self.bytes.len() as u32, len: argument.len() as u32 });
        self.bytes.extend_from_slice(argument);
    }

    /// The arguments pushed since the last `clear`.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }

    /// Bytes of memory it holds.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}

impl<'a> Extend<&'a [u8]> for ArgsBuffer {
    fn extend<T: IntoIterator<Item = &'a [u8]>>(&mut self, arguments: T) {
        arguments.into_iter().for_each(|argument| self.push(argument));
    }
}
