//! A Lua state for the daemon's own Lua, with `debug` and without the JIT compiler.
//!
//! Commands and consoles of the control thread are short; interpreted code can always be interrupted by a count hook.
//! Must not know: what runs in it.

#![allow(unsafe_code, reason = "mlua hands out `debug` only through an unsafe constructor")]

use mlua::{Lua, LuaOptions, StdLib};

/// A state with `debug`, which the boot file must keep from everything that a user types.
pub fn state() -> Lua {
    let libraries =
        StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::BIT | StdLib::OS | StdLib::DEBUG;
    // SAFETY: `debug` can break Lua's own invariants only in the hands of code that gets it: `lua/control.lua` keeps
    // `getlocal` and `traceback` for itself. C modules can't be loaded: `package` isn't opened.
    unsafe { Lua::unsafe_new_with(libraries, LuaOptions::default()) }
}
