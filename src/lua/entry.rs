//! The one way from the worker into Lua: a whole batch per entry, without mlua between.
#![allow(unsafe_code, reason = "the raw Lua interface: one protected call per batch")]

use std::ffi::c_int;

use mlua_sys as lua;

use super::watchdog::raw_state;

/// The dispatcher's `drive` function, anchored in the registry.
pub(super) struct Drive {
    state: *mut lua::lua_State,
    reference: c_int,
}

impl Drive {
    /// For the function of this VM.
    pub(super) fn new(vm: &mlua::Lua, drive: &mlua::Function) -> mlua::Result<Drive> {
        let mut reference = 0;
        let anchor = |state| {
            // SAFETY: the function is on the stack; luaL_ref pops it.
            reference = unsafe { lua::luaL_ref(state, lua::LUA_REGISTRYINDEX) };
        };
        // SAFETY: the closure leaves the stack as mlua expects it: without the argument, without results.
        unsafe { vm.exec_raw::<()>(drive, anchor) }?;
        Ok(Drive { state: raw_state(vm), reference })
    }

    /// The main state, for the watchdog.
    pub(super) fn state(&self) -> *mut lua::lua_State {
        self.state
    }

    /// Runs `count` events, or goes on where a failure cut the batch (nothing). Answers how many tasks wait and how many
    /// are ready, or the error that left the dispatcher itself.
    pub(super) fn run(
        &self,
        count: Option<usize>,
        monotonic_ms: u64,
        unix_ms: u64,
    ) -> Result<(usize, usize), String> {
        let state = self.state;
        let count = count.map_or(-1.0, |count| count as f64);
        // SAFETY: the reference is the function's, and a state at rest has room for LUA_MINSTACK values.
        unsafe {
            lua::lua_rawgeti(state, lua::LUA_REGISTRYINDEX, lua::lua_Integer::from(self.reference))
        };
        for number in [count, monotonic_ms as f64, unix_ms as f64] {
            // SAFETY: as above.
            unsafe { lua::lua_pushnumber(state, number) };
        }
        // SAFETY: a function and three arguments are on the stack.
        let status = unsafe { lua::lua_pcall(state, 3, 2, 0) };
        if status != lua::LUA_OK {
            let text = self.text();
            // SAFETY: the error value is on the stack.
            unsafe { lua::lua_settop(state, -2) };
            return Err(text);
        }
        // SAFETY: two results are on the stack.
        let waiting = unsafe { lua::lua_tonumber(state, -2) };
        // SAFETY: as above.
        let ready = unsafe { lua::lua_tonumber(state, -1) };
        // SAFETY: as above.
        unsafe { lua::lua_settop(state, -3) };
        Ok((waiting as usize, ready as usize))
    }

    /// The value on top as text, if it is a string.
    fn text(&self) -> String {
        let mut len = 0;
        // SAFETY: a value is on the stack; a string isn't converted, so nothing is allocated.
        if unsafe { lua::lua_type(self.state, -1) } != lua::LUA_TSTRING {
            return "an error value that isn't text".to_owned();
        }
        // SAFETY: the value is a string, and stays on the stack while its bytes are copied.
        let bytes = unsafe { lua::lua_tolstring(self.state, -1, &mut len) };
        // SAFETY: as above: `len` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len) };
        String::from_utf8_lossy(bytes).into_owned()
    }
}
