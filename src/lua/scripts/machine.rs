//! What the store VM's Lua side and its Rust side share while a script runs, and the functions that compiled Lua calls.
//!
//! One per VM, reached by pointer. The pointer to the store is there only during a run. A leaf never calls Lua, never
//! fails and never unwinds; the trusted Lua that calls it has checked the types. Must not know: what scripts may do.
#![allow(unsafe_code, reason = "the functions' arguments are pointers that LuaJIT's FFI passes")]

use std::ffi::{c_char, c_void};
use std::ptr;

use crate::log::LogLevel;
use crate::store::ArgsBuffer;
use crate::store::scripting::{RunKind, World};

/// See the module. The first two fields are `sk_machine` in `lua/store/boot.lua`.
#[repr(C)]
pub(super) struct Machine {
    /// 1 while a slice ends inside: a coroutine of the script hands the yield on.
    pub(super) suspending: u32,
    /// 1 while the hook ends the run.
    pub(super) killing: u32,
    /// The answer of the last command.
    answer: Answer,
    /// The store, while a script runs.
    pub(super) world: *mut World<'static>,
    /// The next command's arguments.
    arguments: ArgsBuffer,
    /// The last command's reply.
    pub(super) reply: Vec<u8>,
    /// Bytes that a C function puts together.
    pub(super) scratch: Vec<u8>,
    /// `redis.setresp(3)`.
    pub(super) resp3: bool,
    /// How the run ends or pauses.
    pub(super) interrupt: Interrupt,
    /// cjson's settings.
    pub(super) json: JsonSettings,
}

/// What the hook does when it is called.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interrupt {
    /// The run may pause.
    pub(super) may_suspend: bool,
    /// The run is to end with an error.
    pub(super) kill: Option<Kill>,
    /// Slices that ended where Lua can't pause.
    pub(super) stuck: u32,
    /// Such slices after which the run ends.
    pub(super) stuck_max: u32,
    /// The run's budget, for its message.
    pub(super) budget_ms: u32,
}

/// Why a run is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// SCRIPT KILL or FUNCTION KILL.
    Asked,
    /// It used up its budget.
    Budget,
}

/// What scripts can set of cjson.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonSettings {
    pub(super) encode_depth: usize,
    pub(super) decode_depth: usize,
    pub(super) precision: i32,
    pub(super) sparse_convert: bool,
    pub(super) sparse_ratio: usize,
    pub(super) sparse_safe: usize,
    /// 0: an error, 1: as they are, 2: null.
    pub(super) encode_invalid: u8,
    pub(super) decode_invalid: bool,
    pub(super) keep_buffer: bool,
}

impl Default for JsonSettings {
    fn default() -> JsonSettings {
        JsonSettings {
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_invalid: 0,
            decode_invalid: true,
            keep_buffer: true,
        }
    }
}

/// A command's reply: `sk_answer` in `lua/store/boot.lua`, its kinds are those of `lua/store/redis.lua`.
#[repr(C)]
struct Answer {
    bytes: *const u8,
    number: f64,
    len: u32,
    kind: u32,
}

/// The kinds of answers.
pub(super) mod kind {
    pub(in crate::lua) const NIL: u32 = 0;
    pub(in crate::lua) const STRING: u32 = 1;
    pub(in crate::lua) const NUMBER: u32 = 2;
    pub(in crate::lua) const STATUS: u32 = 3;
    pub(in crate::lua) const ERROR: u32 = 4;
    /// Everything else: the C function `take` makes the value of the reply.
    pub(in crate::lua) const OTHER: u32 = 5;
}

impl Machine {
    /// At rest.
    pub(super) fn at_rest() -> Machine {
        let answer = Answer { bytes: ptr::null(), number: 0.0, len: 0, kind: 0 };
        Machine {
            suspending: 0,
            killing: 0,
            answer,
            world: ptr::null_mut(),
            arguments: ArgsBuffer::default(),
            reply: Vec::new(),
            scratch: Vec::new(),
            resp3: false,
            interrupt: Interrupt::default(),
            json: JsonSettings::default(),
        }
    }

    /// The store; nothing outside a run (a library that is loaded can't call commands).
    pub(super) fn world(&mut self) -> Option<&mut World<'static>> {
        // SAFETY: the pointer is set for a run's time from the caller's reference, which isn't used meanwhile.
        unsafe { self.world.as_mut() }
    }

    /// Runs the command whose arguments were pushed.
    fn execute(&mut self) -> u32 {
        self.reply.clear();
        let mut arguments = std::mem::take(&mut self.arguments);
        let mut reply = std::mem::take(&mut self.reply);
        match self.world() {
            Some(world) => world.call(arguments.args(), &mut reply),
            None => reply.extend_from_slice(b"-ERR no command can be called here\r\n"),
        }
        arguments.clear();
        (self.arguments, self.reply) = (arguments, reply);
        self.read_answer()
    }

    /// Reads the simple replies in place.
    fn read_answer(&mut self) -> u32 {
        let reply = self.reply.as_slice();
        let line_end = memchr::memchr(b'\r', reply).unwrap_or(reply.len());
        let line = reply.get(1..line_end).unwrap_or_default();
        let (kind, bytes, number) = match reply.first() {
            Some(b'$') if line != b"-1" => {
                let bytes = reply.get(line_end + 2..reply.len() - 2).unwrap_or_default();
                (kind::STRING, bytes, 0.0)
            }
            Some(b'$') => (kind::NIL, line, 0.0),
            Some(b':') => (kind::NUMBER, line, integer(line)),
            Some(b'+') => (kind::STATUS, line, 0.0),
            Some(b'-') => (kind::ERROR, line, 0.0),
            _ => (kind::OTHER, line, 0.0),
        };
        self.answer = Answer { bytes: bytes.as_ptr(), number, len: bytes.len() as u32, kind };
        kind
    }

    /// What `redis.acl_check_cmd` answers about the command that was pushed; nothing if there is no such command.
    pub(super) fn allowed(&mut self) -> Option<bool> {
        let mut arguments = std::mem::take(&mut self.arguments);
        let allowed = self.world().and_then(|world| world.allowed(arguments.args()));
        arguments.clear();
        self.arguments = arguments;
        allowed
    }

    /// A log line of a script.
    pub(super) fn log(&mut self, level: LogLevel, text: String) {
        if let Some(world) = self.world() {
            let origin = match world.run.kind {
                RunKind::Script => "script",
                RunKind::Function => "function",
                RunKind::Command => "command",
            };
            let text = format!("{origin} {}: {text}", world.run.name);
            world.instance.scripting.log(level, text);
        }
    }
}

/// The value of an integer reply, as a Lua number.
fn integer(line: &[u8]) -> f64 {
    let (negative, digits) = match line {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let value = digits.iter().fold(0_u64, |sum, digit| {
        sum.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')))
    });
    if negative { -(value as f64) } else { value as f64 }
}

/// Names and addresses of the leaves, for `lua/store/boot.lua`.
pub(super) fn addresses() -> [(&'static str, *const ()); 6] {
    [
        ("reset", reset as *const ()),
        ("argument", argument as *const ()),
        ("number", number as *const ()),
        ("execute", execute as *const ()),
        ("execute2", execute2 as *const ()),
        ("execute3", execute3 as *const ()),
    ]
}

/// Where `sk_answer` is.
pub(super) fn answer_of(machine: *mut Machine) -> *mut c_void {
    // SAFETY: a living machine; the place of a field is taken, nothing is read.
    unsafe { (&raw mut (*machine).answer).cast() }
}

/// # Safety
/// `machine` is the one that the VM was made with, which outlives it; no other reference to it is in use.
unsafe fn machine_at<'a>(machine: *mut c_void) -> &'a mut Machine {
    // SAFETY: the caller's promise.
    unsafe { &mut *machine.cast::<Machine>() }
}

/// # Safety
/// `bytes` points to `len` readable bytes, unless `len` is 0.
unsafe fn slice<'a>(bytes: *const c_char, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise; a Lua string doesn't move or change while it is an argument.
    unsafe { std::slice::from_raw_parts(bytes.cast(), len) }
}

unsafe extern "C" fn reset(machine: *mut c_void) {
    // SAFETY: trusted Lua passes its own machine.
    let machine = unsafe { machine_at(machine) };
    machine.arguments.clear();
}

unsafe extern "C" fn argument(machine: *mut c_void, bytes: *const c_char, len: usize) {
    // SAFETY: as above.
    let machine = unsafe { machine_at(machine) };
    // SAFETY: a string and its length.
    machine.arguments.push(unsafe { slice(bytes, len) });
}

unsafe extern "C" fn number(machine: *mut c_void, value: f64) {
    // SAFETY: as above.
    let machine = unsafe { machine_at(machine) };
    let mut buffer = itoa::Buffer::new();
    if value == value.trunc() && value.abs() < 9e18 && (value != 0.0 || value.is_sign_positive()) {
        machine.arguments.push(buffer.format(value as i64).as_bytes());
    } else {
        let mut text = [0; NUMBER_BYTES];
        machine.arguments.push(general(value, 17, &mut text));
    }
}

unsafe extern "C" fn execute(machine: *mut c_void) -> u32 {
    // SAFETY: as above.
    unsafe { machine_at(machine) }.execute()
}

unsafe extern "C" fn execute2(
    machine: *mut c_void,
    name: *const c_char,
    name_len: usize,
    first: *const c_char,
    first_len: usize,
) -> u32 {
    // SAFETY: as above.
    let machine = unsafe { machine_at(machine) };
    // SAFETY: a string and its length.
    machine.arguments.push(unsafe { slice(name, name_len) });
    // SAFETY: a string and its length.
    machine.arguments.push(unsafe { slice(first, first_len) });
    machine.execute()
}

unsafe extern "C" fn execute3(
    machine: *mut c_void,
    name: *const c_char,
    name_len: usize,
    first: *const c_char,
    first_len: usize,
    second: *const c_char,
    second_len: usize,
) -> u32 {
    // SAFETY: as above.
    let machine = unsafe { machine_at(machine) };
    // SAFETY: a string and its length.
    machine.arguments.push(unsafe { slice(name, name_len) });
    // SAFETY: a string and its length.
    machine.arguments.push(unsafe { slice(first, first_len) });
    // SAFETY: a string and its length.
    machine.arguments.push(unsafe { slice(second, second_len) });
    machine.execute()
}

/// Bytes that a number's text may have.
pub(super) const NUMBER_BYTES: usize = 48;

/// A number as C's `%.{precision}g` prints it.
pub(super) fn general(value: f64, precision: i32, buffer: &mut [u8; NUMBER_BYTES]) -> &[u8] {
    let (start, room) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the buffer's bounds are given, and the format takes an int and a double.
    let printed = unsafe { libc::snprintf(start, room, c"%.*g".as_ptr(), precision, value) };
    &buffer[..(printed.max(0) as usize).min(NUMBER_BYTES - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_numbers_as_text() {
        for (line, value) in [("0", 0.0), ("-17", -17.0), ("9007199254740993", 9007199254740992.0)]
        {
            assert_eq!(integer(line.as_bytes()), value);
        }
        let mut buffer = [0; NUMBER_BYTES];
        for (value, precision, text) in [
            (0.1, 17, "0.10000000000000001"),
            (1e300, 17, "1.0000000000000001e+300"),
            (1.5, 14, "1.5"),
            (2_f64.powi(53), 14, "9.007199254741e+15"),
            (f64::MIN_POSITIVE, 17, "2.2250738585072014e-308"),
        ] {
            assert_eq!(general(value, precision, &mut buffer), text.as_bytes());
        }
    }
}
