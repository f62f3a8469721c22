//! How a script calls the functions of its engine, and what it prints and waits for.

use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rhai::{
    Dynamic, EvalAltResult, FuncRegistration, Module, NativeCallContext, Position, RhaiFunc,
    Shared, FLOAT, INT,
};

use crate::errors::thrown;
use crate::run::{Run, Stop};
use crate::values::{to_python, to_rhai};

/// How many arguments Rhai passes to a function that takes any type.
pub const MAX_ARGUMENTS: usize = 16;
/// Words that mean something to Rhai, whatever has their name.
const NAMES_OF_RHAI: [&str; 11] = [
    "print",
    "debug",
    "type_of",
    "eval",
    "Fn",
    "call",
    "curry",
    "is_shared",
    "is_def_fn",
    "this",
    "global",
];

/// A Python function, by the name and the counts of arguments it is called with.
pub struct Function {
    name: String,
    callable: Arc<Py<PyAny>>,
    least: usize,
    most: usize,
}

impl Function {
    /// Read a `horus_rhai.Function`, or any callable by its signature.
    pub fn read(name: String, given: &Bound<'_, PyAny>) -> PyResult<Self> {
        check_name(&name)?;
        let py = given.py();
        let class = py.import("horus_rhai.function")?.getattr("Function")?;
        let function = if given.is_instance(&class)? {
            given.clone()
        } else {
            class.call_method1(intern!(py, "of"), (given,))?
        };
        let least: usize = function.getattr(intern!(py, "least"))?.extract()?;
        let most: usize = function.getattr(intern!(py, "most"))?.extract()?;
        if least > most || most > MAX_ARGUMENTS {
            return Err(PyValueError::new_err(format!(
                "{name} takes {least} to {most} arguments; a Rhai function takes at most {MAX_ARGUMENTS}"
            )));
        }
        let callable = Arc::new(function.getattr(intern!(py, "call"))?.unbind());
        Ok(Self {
            name,
            callable,
            least,
            most,
        })
    }

    /// Whether it is called by this name with so many arguments.
    pub fn takes(&self, name: &str, arguments: usize) -> bool {
        self.name == name && (self.least..=self.most).contains(&arguments)
    }

    /// Let scripts call it, once for each count of arguments.
    pub fn register(&self, module: &mut Module) {
        for count in self.least..=self.most {
            let callable = self.callable.clone();
            let call = move |context: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]| {
                let position = context.map_or(Position::NONE, |context| context.call_position());
                call_python(position, |py| {
                    let arguments = arguments.iter().map(|argument| to_python(py, argument));
                    let arguments: PyResult<Vec<_>> = arguments.collect();
                    callable.bind(py).call1(PyTuple::new(py, arguments?)?)
                })
            };
            FuncRegistration::new(self.name.as_str())
                .in_global_namespace()
                .set_into_module_raw(
                    module,
                    vec![TypeId::of::<Dynamic>(); count],
                    RhaiFunc::Pure {
                        func: Shared::new(call),
                        has_context: true,
                        is_pure: true,
                        is_volatile: true,
                    },
                );
        }
    }
}

/// Refuse a name that a script could not say, or that means something else.
pub fn check_name(name: &str) -> PyResult<()> {
    if !is_identifier(name) {
        let text = format!("{name:?} is no name in Rhai: letters, digits and _, no digit first");
        return Err(PyValueError::new_err(text));
    }
    if NAMES_OF_RHAI.contains(&name) || rhai::Token::lookup_symbol_from_syntax(name).is_some() {
        let text = format!("{name:?} is a word of Rhai itself; choose another name");
        return Err(PyValueError::new_err(text));
    }
    Ok(())
}

/// Read a mapping by its string keys.
pub fn read_names(mapping: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Py<PyAny>)>> {
    let py = mapping.py();
    let dict = PyDict::new(py);
    dict.call_method1(intern!(py, "update"), (mapping,))?;
    let mut pairs = Vec::with_capacity(dict.len());
    for (key, value) in dict.iter() {
        let name: String = key
            .extract()
            .map_err(|_| PyTypeError::new_err("a name in Rhai is a string"))?;
        pairs.push((name, value.unbind()));
    }
    Ok(pairs)
}

/// Call something of Python for a script.
pub fn call_python<F>(position: Position, call: F) -> Result<Dynamic, Box<EvalAltResult>>
where
    F: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
{
    Python::attach(|py| {
        let result = call(py).and_then(|value| to_rhai(&value));
        if let Some(run) = Run::current() {
            run.look_soon();
        }
        result.map_err(|error| thrown(py, error, position))
    })
}

/// Replace what Rhai's own `sleep` does, which nothing would end.
pub fn register_sleep(module: &mut Module) {
    FuncRegistration::new("sleep")
        .in_global_namespace()
        .with_volatility(true)
        .set_into_module(module, |seconds: FLOAT| sleep(seconds));
    FuncRegistration::new("sleep")
        .in_global_namespace()
        .with_volatility(true)
        .set_into_module(module, |seconds: INT| {
            #[allow(clippy::cast_precision_loss)] // nobody waits for 2^53 seconds
            sleep(seconds as FLOAT)
        });
}

/// Replace what Rhai's own `exit` does, which a script could catch where Rhai calls back.
pub fn register_exit(module: &mut Module) {
    FuncRegistration::new("exit")
        .in_global_namespace()
        .with_volatility(true)
        .set_into_module(module, exit);
    FuncRegistration::new("exit")
        .in_global_namespace()
        .with_volatility(true)
        .set_into_module(module, || exit(Dynamic::UNIT));
}

/// Hand what a script prints to the callable of its run.
pub fn print(text: &str) {
    tell(
        |run| run.print.clone(),
        |py, callable| callable.bind(py).call1((text,)).map(drop),
    );
}

/// Hand what a script debugs to the callable of its run, with its place.
pub fn debug(text: &str, position: Position) {
    tell(
        |run| run.debug.clone(),
        |py, callable| {
            let place = (text, position.line(), position.position());
            callable.bind(py).call1(place).map(drop)
        },
    );
}

fn tell(
    find: impl FnOnce(&Run) -> Option<Arc<Py<PyAny>>>,
    call: impl FnOnce(Python<'_>, &Py<PyAny>) -> PyResult<()>,
) {
    let Some(run) = Run::current() else { return };
    let Some(callable) = find(&run) else { return };
    if run.has_ended() {
        return;
    }
    if let Err(error) = Python::attach(|py| call(py, &callable)) {
        run.end(Stop::Raised(error));
    }
    run.look_soon();
}

fn sleep(seconds: FLOAT) -> Result<(), Box<EvalAltResult>> {
    if seconds.is_nan() || seconds <= 0.0 {
        return Ok(());
    }
    let wanted = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Run::current().map_or(Ok(()), |run| run.sleep(wanted))
}

fn exit(value: Dynamic) -> Result<Dynamic, Box<EvalAltResult>> {
    if let Some(run) = Run::current() {
        run.end(Stop::Exit(value.clone()));
    }
    Err(EvalAltResult::Exit(value, Position::NONE).into())
}

fn is_identifier(name: &str) -> bool {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    starts_well && name.chars().all(is_word) && name.chars().any(|letter| letter != '_')
}
