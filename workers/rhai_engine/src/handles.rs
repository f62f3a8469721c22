//! What a script can do with a Python object: only what its class offers.
//!
//! A class offers functions by `rhai_call(name, args)`, properties by
//! `rhai_get(name)` and `rhai_set(name, value)`. They are looked up on the class,
//! as Python does for its own special methods, so that an object that answers to
//! every name is still closed.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use rhai::{
    Dynamic, Engine, EvalAltResult, FuncRegistration, ImmutableString, Module, Position, INT,
};

use crate::errors::{is_missing, thrown};
use crate::run::{Run, Stop};
use crate::values::{to_python, to_rhai, Handle};

type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

/// What `type_of` says of every Python object.
const TYPE_NAME: &str = "object";

/// What Rhai does with a value of any type: these are never asked of a class.
const OF_EVERYTHING: [(&str, usize); 8] = [
    ("debug", 1),
    ("exit", 1),
    ("print", 1),
    ("set_tag", 2),
    ("tag", 1),
    ("take", 1),
    ("to_debug", 1),
    ("to_string", 1),
];

/// Whether Rhai has a function of its own for an object by this name.
pub fn is_of_everything(name: &str, arguments: usize) -> bool {
    OF_EVERYTHING.contains(&(name, arguments))
}

/// Teach an engine what objects are.
pub fn register(engine: &mut Engine, module: &mut Module) {
    engine.register_type_with_name::<Handle>(TYPE_NAME);
    register_texts(module);
    register_properties(module);
    register_tag(module);
    FuncRegistration::new("==")
        .in_global_namespace()
        .set_into_module(module, |one: Handle, other: Handle| one.is_same(&other));
    FuncRegistration::new("!=")
        .in_global_namespace()
        .set_into_module(module, |one: Handle, other: Handle| !one.is_same(&other));
}

/// Call a function that the class of an object offers.
pub fn call(handle: &Handle, name: &str, arguments: &[&mut Dynamic]) -> Result<Dynamic> {
    let mut text = String::new();
    let missing = |py: Python<'_>| text = signature(py, name, handle, arguments);
    ask_for_call(handle, name, arguments, missing)?
        .ok_or_else(|| EvalAltResult::ErrorFunctionNotFound(text, Position::NONE).into())
}

/// Call a function if the class of an object offers it.
pub fn find_and_call(
    handle: &Handle,
    name: &str,
    arguments: &[&mut Dynamic],
) -> Result<Option<Dynamic>> {
    let missing = |py: Python<'_>| note_missing(name, signature(py, name, handle, arguments));
    ask_for_call(handle, name, arguments, missing)
}

fn ask_for_call(
    handle: &Handle,
    name: &str,
    arguments: &[&mut Dynamic],
    missing: impl FnOnce(Python<'_>),
) -> Result<Option<Dynamic>> {
    ask(handle, "NoSuchFunction", missing, |py, object| {
        let Ok(offer) = object.get_type().getattr(intern!(py, "rhai_call")) else {
            return Ok(None);
        };
        let arguments = arguments.iter().map(|argument| to_python(py, argument));
        let arguments: PyResult<Vec<_>> = arguments.collect();
        offer
            .call1((object, name, PyTuple::new(py, arguments?)?))
            .map(Some)
    })
}

fn get(handle: &Handle, name: &str) -> Result<Dynamic> {
    let missing = |py: Python<'_>| {
        let class = class_name(py, handle);
        note_missing(name, format!("Unknown property '{name}' of '{class}'"));
    };
    ask(handle, "NoSuchProperty", missing, |py, object| {
        let Ok(offer) = object.get_type().getattr(intern!(py, "rhai_get")) else {
            return Ok(None);
        };
        offer.call1((object, name)).map(Some)
    })?
    .ok_or_else(|| no_property(name))
}

fn set(handle: &Handle, name: &str, value: &Dynamic) -> Result<()> {
    let missing = |py: Python<'_>| {
        let class = class_name(py, handle);
        note_missing(name, format!("No writable property '{name}' of '{class}'"));
    };
    ask(handle, "NoSuchProperty", missing, |py, object| {
        let Ok(offer) = object.get_type().getattr(intern!(py, "rhai_set")) else {
            return Ok(None);
        };
        offer.call1((object, name, to_python(py, value)?)).map(Some)
    })?
    .ok_or_else(|| no_property(name))
    .map(drop)
}

/// Of this error Rhai makes its own of a property, and ignores it where it only writes
/// back what a method may have changed.
fn no_property(name: &str) -> Box<EvalAltResult> {
    EvalAltResult::ErrorIndexingType(format!("{TYPE_NAME} ['{name}']"), Position::NONE).into()
}

fn note_missing(name: &str, text: String) {
    if let Some(run) = Run::current() {
        run.note_missing(name, text);
    }
}

/// Ask something of an object; `None` and the error of this class say that it has none.
fn ask<F>(
    handle: &Handle,
    class: &str,
    missing: impl FnOnce(Python<'_>),
    question: F,
) -> Result<Option<Dynamic>>
where
    F: for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
{
    Python::attach(|py| {
        let answer = question(py, handle.0.bind(py));
        if let Some(run) = Run::current() {
            run.look_soon();
        }
        let fail = |error| thrown(py, error, Position::NONE);
        match answer {
            Ok(Some(answer)) => to_rhai(&answer).map(Some).map_err(fail),
            Err(error) if !is_missing(py, &error, class) => Err(fail(error)),
            _ => {
                missing(py);
                Ok(None)
            }
        }
    })
}

/// Let an object be read and written by `object.name`, which is also `object["name"]`.
fn register_properties(module: &mut Module) {
    FuncRegistration::new_index_getter()
        .with_volatility(true)
        .set_into_module(module, |handle: &mut Handle, name: ImmutableString| {
            get(handle, &name)
        });
    FuncRegistration::new_index_setter()
        // A constant that is an object may be changed: it is the name that is constant.
        .with_purity(true)
        .with_volatility(true)
        .set_into_module(
            module,
            |handle: &mut Handle, name: ImmutableString, value: Dynamic| set(handle, &name, &value),
        );
}

/// Leave `tag` to the class of an object: Rhai gives every value a property of this name.
fn register_tag(module: &mut Module) {
    FuncRegistration::new_getter("tag")
        .set_into_module(module, |handle: &mut Handle| get(handle, "tag"));
    FuncRegistration::new_setter("tag")
        .with_purity(true)
        .set_into_module(module, |handle: &mut Handle, value: Dynamic| {
            set(handle, "tag", &value)
        });
    FuncRegistration::new_setter("tag")
        .with_purity(true)
        .set_into_module(module, |handle: &mut Handle, value: INT| {
            set(handle, "tag", &value.into())
        });
    FuncRegistration::new("tag")
        .in_global_namespace()
        .with_purity(true)
        .set_into_module(module, |handle: &mut Handle| call(handle, "tag", &[]));
    FuncRegistration::new("set_tag")
        .in_global_namespace()
        .with_purity(true)
        .set_into_module(module, |handle: &mut Handle, value: INT| {
            call(handle, "set_tag", &[&mut value.into()])
        });
}

/// Let an object be printed as its class says: `str` for people, `repr` for debugging.
fn register_texts(module: &mut Module) {
    for name in ["to_string", "print"] {
        FuncRegistration::new(name)
            .in_global_namespace()
            .with_purity(true)
            .with_volatility(true)
            .set_into_module(module, |handle: &mut Handle| {
                text(handle, |object| object.str())
            });
    }
    for name in ["to_debug", "debug"] {
        FuncRegistration::new(name)
            .in_global_namespace()
            .with_purity(true)
            .with_volatility(true)
            .set_into_module(module, |handle: &mut Handle| {
                text(handle, |object| object.repr())
            });
    }
}

fn text<F>(handle: &Handle, show: F) -> Result<ImmutableString>
where
    F: for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>>,
{
    Python::attach(|py| {
        let shown = show(handle.0.bind(py));
        let shown = shown.and_then(|shown| Ok(shown.to_str()?.into()));
        shown.map_err(|error| {
            // Rhai would print something else instead, as if nothing had happened.
            if let Some(run) = Run::current() {
                run.end(Stop::Raised(error));
            }
            crate::run::terminated(Position::NONE)
        })
    })
}

/// How a call is written in an error: `title (Note, string)`.
fn signature(py: Python<'_>, name: &str, handle: &Handle, arguments: &[&mut Dynamic]) -> String {
    let mut kinds = vec![class_name(py, handle)];
    kinds.extend(arguments.iter().map(|argument| kind(py, argument)));
    format!("{name} ({})", kinds.join(", "))
}

fn kind(py: Python<'_>, value: &Dynamic) -> String {
    if let Some(handle) = value.read_lock::<Handle>() {
        return class_name(py, &handle);
    }
    if value.is_string() {
        return "string".into();
    }
    value
        .type_name()
        .rsplit("::")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn class_name(py: Python<'_>, handle: &Handle) -> String {
    let name = handle.0.bind(py).get_type().name();
    name.map_or_else(|_| TYPE_NAME.to_owned(), |name| name.to_string())
}
