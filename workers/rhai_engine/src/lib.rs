//! The Rhai scripting language as an engine for Python.
//!
//! An engine knows Python functions and names, compiles scripts, and runs them
//! within limits. A script reaches nothing but what it was given: no file, no
//! module, no `eval`, no standard output.

mod asked;
mod calls;
mod cancel;
mod engine;
mod errors;
mod handles;
mod memory;
mod run;
mod stack;
mod values;

use pyo3::prelude::*;

#[global_allocator]
static MEMORY: memory::Telling = memory::Telling;

/// The version of the Rhai crate, which Cargo.toml names exactly.
const RHAI_VERSION: &str = "1.26.1";

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("RHAI_VERSION", RHAI_VERSION)?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<engine::Script>()?;
    module.add_function(wrap_pyfunction!(memory::tell_of_no_memory, module)?)?;
    module.add_class::<cancel::CancelToken>()
}
