//! Stops scripts that run longer than their budget.
//!
//! A script is interrupted by a count hook, which LuaJIT's compiled code looks at because it is built with
//! `LUAJIT_ENABLE_CHECKHOOK`. A hook that is always armed would cost 60 times the speed, so it is armed only when a
//! handler has run too long: one thread per process compares every worker's [`WatchSlot`] with the worker's own CPU clock
//! (wall time would punish scripts for a busy machine) and signals the worker's *thread*, because `lua_sethook` is safe in
//! a signal handler and not from another thread. The hook then raises an error in the script's code, and stays armed, so
//! that a `pcall` in a loop dies too, until it is back in the dispatcher.
//!
//! Must not know: apps, events, what runs.
#![allow(
    unsafe_code,
    reason = "signals, thread clocks and Lua's hook interface have no safe wrapper"
)]

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use mlua_sys as lua;
use parking_lot::Mutex;

/// How often a slot is looked at while some worker runs scripts.
const TICK: Duration = Duration::from_millis(5);
/// Ticks without any script after which the thread sleeps until the next one begins.
const IDLE_TICKS: u32 = 200;
/// The longest sleep: bounds what a lost wake-up costs.
const IDLE: Duration = Duration::from_millis(250);
/// Chunks whose name begins so are the dispatcher's: an interruption there would cut it in half.
pub(super) const TRUSTED_PREFIX: &CStr = c"=[sk";

/// A worker's place at the watchdog: which handler runs now.
///
/// The first two fields are read and written by the dispatcher through the FFI (`sk_control` in `lua/app/boot.lua`).
#[repr(C)]
#[derive(Debug)]
pub struct WatchSlot {
    /// Not 0 while a script's code runs: a number that differs between handlers of one batch.
    in_user: AtomicU32,
    /// 1 while the hook interrupts.
    killing: AtomicU32,
    /// Counts entries, so that `in_user` of different batches differ.
    epoch: AtomicU32,
    budget_ms: AtomicU32,
    /// The epoch and `in_user` that ran too long.
    kill_epoch: AtomicU32,
    kill_in_user: AtomicU32,
    /// The Lua state that is entered; null outside an entry.
    state: AtomicPtr<lua::lua_State>,
    /// What is armed when the budget is used up: a [`lua::lua_Hook`].
    hook: AtomicPtr<libc::c_void>,
    thread: libc::pid_t,
    clock: libc::clockid_t,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    slots: Mutex<Vec<Weak<WatchSlot>>>,
    /// The thread sleeps until someone unparks it.
    asleep: AtomicBool,
    ended: AtomicBool,
    thread: Mutex<Option<std::thread::Thread>>,
}

/// The watching thread; ends when dropped.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

thread_local! {
    /// This thread's slot for the signal handler; leaked at registration, so it is valid for ever.
    static SLOT: Cell<*const WatchSlot> = const { Cell::new(ptr::null()) };
}

impl Watchdog {
    /// Starts the thread and installs the signal handler (SIGURG, which nothing else uses and whose default is to be
    /// ignored).
    pub fn start() -> Watchdog {
        install_handler();
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&watched))
            .expect("the process can start a thread at its own start");
        *shared.thread.lock() = Some(thread.thread().clone());
        Watchdog { shared, thread: Some(thread) }
    }

    /// The slot of the calling thread, whose CPU clock it uses. Call it once, on the worker's thread: a signal finds the
    /// last one.
    pub fn register(&self) -> Arc<WatchSlot> {
        let mut clock = 0;
        // SAFETY: pthread_self has no preconditions.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: `this` is a living thread, and `clock` is written before the return.
        let failed = unsafe { libc::pthread_getcpuclockid(this, &mut clock) };
        assert_eq!(failed, 0, "a living thread has a CPU clock");
        unblock_signal();
        let slot = Arc::new(WatchSlot {
            in_user: AtomicU32::new(0),
            killing: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            budget_ms: AtomicU32::new(0),
            kill_epoch: AtomicU32::new(0),
            kill_in_user: AtomicU32::new(0),
            state: AtomicPtr::new(ptr::null_mut()),
            hook: AtomicPtr::new(ptr::null_mut()),
            // SAFETY: gettid has no preconditions.
            thread: unsafe { libc::gettid() },
            clock,
            shared: Arc::clone(&self.shared),
        });
        // A late signal may arrive whenever the thread lives, so the handler's reference is never given back.
        SLOT.set(Arc::into_raw(Arc::clone(&slot)));
        self.shared.slots.lock().push(Arc::downgrade(&slot));
        slot
    }

    /// Whether an endless loop is really stopped: false if LuaJIT was linked without its check hook. Takes some 60 ms.
    pub fn self_test(&self) -> bool {
        let before = SLOT.get();
        let slot = self.register();
        let lua = mlua::Lua::new();
        // Ends by itself after some seconds of compiled code, so that a failing test says so instead of hanging.
        let loop_of = "local x = 0 for i = 1, 8e9 do x = x + 1 end return x";
        let Ok(function) = lua.load(loop_of).set_name("=self-test").into_function() else {
            return false;
        };
        let state = raw_state(&lua);
        let entry = slot.enter(state, 20);
        slot.in_user.store(1, Ordering::Relaxed);
        let stopped = function.call::<f64>(()).is_err();
        slot.in_user.store(0, Ordering::Relaxed);
        drop(entry);
        SLOT.set(before);
        stopped
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the watchdog's loop has nothing that panics");
        }
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(thread) = self.thread.lock().as_ref() {
            thread.unpark();
        }
    }
}

/// The VM's main state.
pub(super) fn raw_state(lua: &mlua::Lua) -> *mut lua::lua_State {
    let mut found = ptr::null_mut();
    // SAFETY: the closure only reads the pointer, and leaves the stack as it was.
    let result = unsafe { lua.exec_raw::<()>((), |state| found = state) };
    result.expect("reading a pointer can't fail");
    found
}

/// While it lives, the slot watches a Lua state.
pub(super) struct Entry<'a> {
    slot: &'a WatchSlot,
    state: *mut lua::lua_State,
    /// What the slot watched before: a script may be called by a handler.
    outer: Outer,
}

/// An entry that another one interrupts.
#[derive(Clone, Copy)]
struct Outer {
    state: *mut lua::lua_State,
    hook: *mut libc::c_void,
    in_user: u32,
    budget_ms: u32,
}

/// What LuaJIT calls when the budget is used up.
pub(super) type Hook = unsafe extern "C-unwind" fn(*mut lua::lua_State, *mut lua::lua_Debug);

/// The calling thread's slot, if it has one.
pub(super) fn current() -> Option<&'static WatchSlot> {
    let slot = SLOT.get();
    // SAFETY: a slot in SLOT is leaked, so it is valid for ever.
    (!slot.is_null()).then(|| unsafe { &*slot })
}

impl WatchSlot {
    /// Where the dispatcher reads and writes `in_user` and `killing`.
    pub(super) fn control(&self) -> *mut std::ffi::c_void {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Begins an entry into `state`, which is valid until the entry is dropped.
    pub(super) fn enter(&self, state: *mut lua::lua_State, budget_ms: u32) -> Entry<'_> {
        self.enter_with(state, budget_ms, on_count)
    }

    /// The same with a hook of its own. All of the entry counts until [`Entry::begin`] and after it.
    pub(super) fn enter_with(
        &self,
        state: *mut lua::lua_State,
        budget_ms: u32,
        hook: Hook,
    ) -> Entry<'_> {
        let outer = Outer {
            state: self.state.load(Ordering::Relaxed),
            hook: self.hook.load(Ordering::Relaxed),
            in_user: self.in_user.load(Ordering::Relaxed),
            budget_ms: self.budget_ms.load(Ordering::Relaxed),
        };
        self.in_user.store(0, Ordering::Relaxed);
        self.hook.store(hook as *mut libc::c_void, Ordering::Relaxed);
        self.epoch.store(self.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.budget_ms.store(budget_ms, Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
        if self.shared.asleep.load(Ordering::Relaxed) {
            self.shared.wake();
        }
        Entry { slot: self, state, outer }
    }

    /// What runs now; nothing outside a script's code.
    fn running(&self) -> Option<(u32, u32)> {
        let in_user = self.in_user.load(Ordering::Relaxed);
        (in_user != 0).then(|| (self.epoch.load(Ordering::Relaxed), in_user))
    }

    /// The thread's CPU time; nothing if the thread has ended.
    fn cpu_ms(&self) -> Option<u64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place to write; an ended thread's clock gives an error.
        let failed = unsafe { libc::clock_gettime(self.clock, &mut time) };
        (failed == 0).then(|| time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
    }

    fn interrupt(&self, (epoch, in_user): (u32, u32)) {
        self.kill_epoch.store(epoch, Ordering::Relaxed);
        self.kill_in_user.store(in_user, Ordering::Release);
        let process = std::process::id();
        // SAFETY: plain numbers; a thread that has ended gives an error, which is fine: nothing runs there.
        unsafe { libc::syscall(libc::SYS_tgkill, process, self.thread, libc::SIGURG) };
    }
}

impl Entry<'_> {
    /// From here on the budget counts, as if a handler had begun.
    pub(super) fn begin(&self) {
        self.slot.in_user.store(1, Ordering::Relaxed);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let (slot, outer) = (self.slot, self.outer);
        slot.in_user.store(0, Ordering::Relaxed);
        slot.state.store(outer.state, Ordering::Relaxed);
        slot.hook.store(outer.hook, Ordering::Relaxed);
        slot.budget_ms.store(outer.budget_ms, Ordering::Relaxed);
        if outer.state.is_null() {
            slot.killing.store(0, Ordering::Relaxed);
        }
        slot.in_user.store(outer.in_user, Ordering::Relaxed);
        // SAFETY: the state is valid as long as its entry, and this is its thread.
        let armed = unsafe { lua::lua_gethook(self.state) }.is_some();
        if armed {
            // SAFETY: as above; no script's code runs, so nothing is interrupted.
            unsafe { lua::lua_sethook(self.state, None, 0, 0) };
        }
    }
}

/// What the thread remembers of a slot: what ran at the last look, and the CPU time when it was first seen.
struct Watched {
    slot: Weak<WatchSlot>,
    since: Option<((u32, u32), u64)>,
}

fn watch(shared: &Shared) {
    let mut watched: Vec<Watched> = Vec::new();
    let mut idle = 0;
    while !shared.ended.load(Ordering::Relaxed) {
        for slot in shared.slots.lock().drain(..) {
            watched.push(Watched { slot, since: None });
        }
        watched.retain(|one| one.slot.strong_count() > 0);
        let busy = watched.iter_mut().filter_map(look).count() > 0;
        idle = if busy { 0 } else { idle + 1 };
        if idle < IDLE_TICKS {
            std::thread::park_timeout(TICK);
        } else {
            shared.asleep.store(true, Ordering::Relaxed);
            std::thread::park_timeout(IDLE);
            shared.asleep.store(false, Ordering::Relaxed);
        }
    }
}

/// Looks at one slot; nothing if no script runs there.
fn look(watched: &mut Watched) -> Option<()> {
    let slot = watched.slot.upgrade()?;
    let Some(running) = slot.running() else {
        watched.since = None;
        return None;
    };
    let now = slot.cpu_ms()?;
    match watched.since {
        Some((same, since)) if same == running => {
            if now.saturating_sub(since) >= u64::from(slot.budget_ms.load(Ordering::Relaxed)) {
                slot.interrupt(running);
            }
        }
        _ => watched.since = Some((running, now)),
    }
    Some(())
}

fn install_handler() {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised, and the handler does only what a handler may.
    let failed = unsafe { libc::sigaction(libc::SIGURG, &action, ptr::null_mut()) };
    assert_eq!(failed, 0, "SIGURG can be handled");
}

fn unblock_signal() {
    // SAFETY: an all-zero set is valid memory for sigemptyset.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid memory.
    unsafe { libc::sigemptyset(&mut set) };
    // SAFETY: `set` is initialised.
    unsafe { libc::sigaddset(&mut set, libc::SIGURG) };
    // SAFETY: `set` is initialised, and only this thread's mask changes.
    let failed = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
    assert_eq!(failed, 0, "a thread's own mask can be changed");
}

/// Arms the hook if what ran too long still runs. A late signal finds another number and does nothing.
extern "C" fn on_signal(_: libc::c_int) {
    let slot = SLOT.get();
    if slot.is_null() {
        return;
    }
    // SAFETY: a slot in SLOT is leaked, so it is valid for ever.
    let slot = unsafe { &*slot };
    let kill = (slot.kill_epoch.load(Ordering::Relaxed), slot.kill_in_user.load(Ordering::Acquire));
    let state = slot.state.load(Ordering::Relaxed);
    let hook = slot.hook.load(Ordering::Relaxed);
    if slot.running() == Some(kill) && !state.is_null() && !hook.is_null() {
        // SAFETY: only `enter_with` stores it, from a `Hook`.
        let hook = unsafe { std::mem::transmute::<*mut libc::c_void, Hook>(hook) };
        // SAFETY: the state is entered by this very thread, and LuaJIT lets a signal handler set a hook.
        unsafe { lua::lua_sethook(state, Some(hook), lua::LUA_MASKCOUNT, 1) };
    }
}

/// The hook: raises in a script's code, spares the dispatcher's, and takes itself off when no script's code runs.
unsafe extern "C-unwind" fn on_count(state: *mut lua::lua_State, debug: *mut lua::lua_Debug) {
    let slot = SLOT.get();
    if slot.is_null() {
        return;
    }
    // SAFETY: a slot in SLOT is leaked, so it is valid for ever.
    let slot = unsafe { &*slot };
    if slot.in_user.load(Ordering::Relaxed) == 0 {
        slot.killing.store(0, Ordering::Relaxed);
        // SAFETY: a hook may change the hook of its own state.
        unsafe { lua::lua_sethook(state, None, 0, 0) };
        return;
    }
    // SAFETY: LuaJIT passes a valid activation record to its hooks.
    unsafe { lua::lua_getinfo(state, c"S".as_ptr(), debug) };
    // SAFETY: the record is valid, and lua_getinfo has filled this field.
    let source = unsafe { (*debug).source };
    // SAFETY: a string that lives as long as the function.
    let source = unsafe { CStr::from_ptr(source) };
    if source.to_bytes().starts_with(TRUSTED_PREFIX.to_bytes()) {
        return;
    }
    slot.killing.store(1, Ordering::Relaxed);
    let budget = slot.budget_ms.load(Ordering::Relaxed);
    // Nothing on this frame needs a destructor: lua_error leaves it without running any.
    // SAFETY: there is stack for hooks (LUA_MINSTACK).
    unsafe { lua::luaL_where(state, 0) };
    let format = c"ran longer than its time budget of %d ms";
    // SAFETY: the format takes one int.
    unsafe { lua::lua_pushfstring(state, format.as_ptr(), budget as libc::c_int) };
    // SAFETY: two strings are on the stack.
    unsafe { lua::lua_concat(state, 2) };
    // SAFETY: an error value is on the stack, and a hook may raise.
    unsafe { lua::lua_error(state) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kill_switch_is_linked_in() {
        assert!(Watchdog::start().self_test());
    }

    #[test]
    fn a_late_signal_hits_nobody() {
        let watchdog = Watchdog::start();
        let slot = watchdog.register();
        let lua = mlua::Lua::new();
        let entry = slot.enter(raw_state(&lua), 1000);
        slot.in_user.store(5, Ordering::Relaxed);
        slot.interrupt((slot.epoch.load(Ordering::Relaxed), 4));
        let sum: f64 =
            lua.load("local x = 0 for i = 1, 1e6 do x = x + 1 end return x").eval().unwrap();
        drop(entry);
        assert_eq!(sum, 1e6);
    }
}
