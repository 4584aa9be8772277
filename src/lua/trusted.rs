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

#[cfg(test)]
mod tests {
    use mlua_sys as lua;

    use super::*;

    /// What a C function answers is an `int`: what stands above it in the register is nobody's. LuaJIT's interpreter took
    /// it for more results, and a finalizer in Rust, compiled without optimisation, crashed the process.
    #[test]
    fn the_upper_half_of_a_c_functions_answer_means_nothing() {
        extern "C-unwind" fn one_result(state: *mut lua::lua_State) -> u64 {
            // SAFETY: a C function has room for LUA_MINSTACK values.
            unsafe { lua::lua_pushinteger(state, 7) };
            0x7fff_0000_0000_0001
        }
        type Wide = extern "C-unwind" fn(*mut lua::lua_State) -> u64;
        // SAFETY: both are pointers to functions of the same calling convention; an int is returned in the lower half.
        let narrow = unsafe { std::mem::transmute::<Wide, lua::lua_CFunction>(one_result) };
        let state = state();
        // SAFETY: the function leaves one result, as it says.
        let function = unsafe { state.create_c_function(narrow) }.expect("there is memory");
        assert_eq!(function.call::<i64>(()).expect("it runs"), 7);
        state
            .load("local f = ... for _ = 1, 200 do assert(f() == 7) end")
            .call::<()>(function)
            .expect("also compiled");
    }
}
