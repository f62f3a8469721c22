//! Which error a caller in Python gets.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use rhai::{Dynamic, EvalAltResult, ImmutableString, Map, ParseError, ParseErrorType, Position};

use crate::run::{terminated, End, Missing, Run, Stop};
use crate::values::to_python;

/// The keys of the map that a script catches for an exception of Python.
const TYPE: &str = "type";
const MESSAGE: &str = "message";
const STRING_IN_RUST: &str = "&str | ImmutableString | String";

/// What a script is told of an exception: a map that it may catch, or its end.
pub fn thrown(py: Python<'_>, error: PyErr, position: Position) -> Box<EvalAltResult> {
    let Some(run) = Run::current() else {
        return error.to_string().into();
    };
    if !error.is_instance_of::<PyException>(py) {
        // A KeyboardInterrupt or SystemExit is none of the script's business.
        run.end(Stop::Raised(error));
        return terminated(position);
    }
    let kind = error.get_type(py).name().map(|name| name.to_string());
    let text = error.value(py).str();
    let text = text.and_then(|text| text.to_str().map(str::to_owned));
    // An exception whose text fails is still an exception.
    let message = ImmutableString::from(text.unwrap_or_default());
    let mut map = Map::new();
    map.insert(TYPE.into(), kind.unwrap_or_default().into());
    map.insert(MESSAGE.into(), message.clone().into());
    run.remember(message, error);
    EvalAltResult::ErrorRuntime(map.into(), position).into()
}

/// The error for a value that cannot leave its script.
pub fn no_form(py: Python<'_>, text: String) -> PyErr {
    let class = class_of(py, "RhaiValueError");
    let error = class.and_then(|class| class.call1((text,)));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// The error for a script that cannot be compiled.
pub fn not_compiled(py: Python<'_>, error: &ParseError) -> PyErr {
    let kind = match *error.0 {
        ParseErrorType::ExprTooDeep
        | ParseErrorType::TooManyFunctions
        | ParseErrorType::LiteralTooLarge(..) => "RhaiLimitError",
        _ => "RhaiSyntaxError",
    };
    Report::new(kind, error.0.to_string(), error.1).raise(py)
}

/// The error for a run that has failed.
pub fn failed(py: Python<'_>, mut error: EvalAltResult, mut end: End) -> PyErr {
    let position = place(&error);
    let stop = end.stop.take();
    if let Some(Stop::Raised(raised)) = stop {
        return raised;
    }
    if let Some(stop) = stop {
        return stopped(py, &stop, position);
    }
    if let Some(raised) = uncaught(&error, &mut end) {
        return placed(py, raised, position);
    }
    if let Some(missing) = end.missing.take() {
        name_class(&mut error, missing);
    }
    let value = match innermost(&error) {
        EvalAltResult::ErrorRuntime(value, _) => Some(value.clone()),
        _ => None,
    };
    let kind = match innermost(&error) {
        EvalAltResult::ErrorTooManyVariables(..)
        | EvalAltResult::ErrorTooManyModules(..)
        | EvalAltResult::ErrorStackOverflow(..)
        | EvalAltResult::ErrorDataTooLarge(..) => "RhaiLimitError",
        _ => "RhaiError",
    };
    forget_positions(&mut error);
    // How the crate calls its strings in some messages is no word of the language.
    let message = error.to_string().replace(STRING_IN_RUST, "string");
    let mut report = Report::new(kind, message, position);
    report.value = value;
    report.raise(py)
}

/// The error for a defect of the engine itself.
pub fn panicked(py: Python<'_>, panic: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let message = format!("the engine broke: {}", text.unwrap_or("it panicked"));
    Report::new("RhaiError", message, Position::NONE).raise(py)
}

/// Whether an exception says that an object does not have what was asked of it.
pub fn is_missing(py: Python<'_>, error: &PyErr, class: &str) -> bool {
    class_of(py, class).is_ok_and(|class| error.is_instance(py, &class))
}

/// The error for a run that was ended from outside.
fn stopped(py: Python<'_>, stop: &Stop, position: Position) -> PyErr {
    let (kind, message, reason) = match stop {
        Stop::Timeout => (
            "RhaiTerminated",
            "the script ran out of time",
            Some("timeout"),
        ),
        Stop::Cancelled => (
            "RhaiTerminated",
            "the script was cancelled",
            Some("cancelled"),
        ),
        Stop::Operations => ("RhaiLimitError", "Too many operations", None),
        Stop::Stack => (
            "RhaiLimitError",
            "Stack overflow: no room for more calls",
            None,
        ),
        Stop::Exit(_) | Stop::Raised(_) => unreachable!("a value, or an error of its own"),
    };
    let mut report = Report::new(kind, message.to_owned(), position);
    report.reason = reason;
    report.raise(py)
}

/// The exception of Python that no script has caught, or that one has thrown again.
fn uncaught(error: &EvalAltResult, end: &mut End) -> Option<PyErr> {
    let EvalAltResult::ErrorRuntime(value, _) = innermost(error) else {
        return None;
    };
    let map = value.as_map_ref().ok()?;
    let message = map.get(MESSAGE)?.as_immutable_string_ref().ok()?;
    end.take_raised(&message)
}

/// The same exception, which says where in the script it was raised, if it can.
fn placed(py: Python<'_>, raised: PyErr, position: Position) -> PyErr {
    let value = raised.value(py);
    for (name, number) in [
        (intern!(py, "rhai_line"), position.line()),
        (intern!(py, "rhai_column"), position.position()),
    ] {
        // One that takes no more attributes goes without.
        let _ = value.setattr(name, number);
    }
    raised
}

/// The error at the bottom of calls: it has the place where it happened.
fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => innermost(inner),
        _ => error,
    }
}

/// Say of which class an object lacks something, where Rhai says it of any object.
fn name_class(error: &mut EvalAltResult, missing: Missing) {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => name_class(inner, missing),
        EvalAltResult::ErrorFunctionNotFound(text, _)
            if text.starts_with(&format!("{} (object", missing.name)) =>
        {
            *text = missing.text;
        }
        EvalAltResult::ErrorDotExpr(text, _)
            if text.contains(&format!("property '{}'", missing.name)) =>
        {
            *text = missing.text;
        }
        _ => {}
    }
}

/// Where it happened; where Rhai does not say, the call that it happened in.
fn place(error: &EvalAltResult) -> Position {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, at)
        | EvalAltResult::ErrorInModule(_, inner, at) => place(inner).or_else(*at),
        _ => error.position(),
    }
}

/// Keep positions out of the message, which come as numbers beside it.
fn forget_positions(error: &mut EvalAltResult) {
    let _ = error.take_position();
    if let EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
    | EvalAltResult::ErrorInModule(_, inner, _) = error
    {
        forget_positions(inner);
    }
}

/// What an error of `horus_rhai.errors` is made from.
struct Report {
    kind: &'static str,
    message: String,
    position: Position,
    value: Option<Dynamic>,
    reason: Option<&'static str>,
}

impl Report {
    fn new(kind: &'static str, message: String, position: Position) -> Self {
        Self {
            kind,
            message,
            position,
            value: None,
            reason: None,
        }
    }

    fn raise(self, py: Python<'_>) -> PyErr {
        self.build(py).unwrap_or_else(|error| error)
    }

    fn build(self, py: Python<'_>) -> PyResult<PyErr> {
        let fields = PyDict::new(py);
        fields.set_item(intern!(py, "line"), self.position.line())?;
        fields.set_item(intern!(py, "column"), self.position.position())?;
        if let Some(value) = self.value {
            // What has no form in Python is shown as the script would print it.
            let value = to_python(py, &value).or_else(|_| {
                value
                    .to_string()
                    .into_pyobject(py)
                    .map(|text| text.into_any().unbind())
            })?;
            fields.set_item(intern!(py, "value"), value)?;
        }
        if let Some(reason) = self.reason {
            fields.set_item(intern!(py, "reason"), reason)?;
        }
        let error = class_of(py, self.kind)?.call((self.message,), Some(&fields))?;
        Ok(PyErr::from_value(error))
    }
}

/// A class of `horus_rhai.errors`.
fn class_of<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        MODULE.get_or_try_init(py, || py.import("horus_rhai.errors").map(Bound::unbind))?;
    Ok(module.bind(py).getattr(name)?.cast_into::<PyType>()?)
}
