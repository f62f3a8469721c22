//! Which value of Python is which of Rhai, both ways.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyRange, PyString, PyTuple,
};
use rhai::{Array, Dynamic, Map, INT};

use crate::errors::no_form;

/// How deep arrays and maps may lie in each other.
pub const MAX_DEPTH: usize = 64;

/// A Python object that a script holds, without looking into it.
#[derive(Clone)]
pub struct Handle(pub Arc<Py<PyAny>>);

impl Handle {
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.is(other.0.as_ref())
    }
}

/// What a script gets for a Python value.
pub fn to_rhai(value: &Bound<'_, PyAny>) -> PyResult<Dynamic> {
    to_rhai_below(value, MAX_DEPTH)
}

/// What Python gets for a value of a script.
pub fn to_python(py: Python<'_>, value: &Dynamic) -> PyResult<Py<PyAny>> {
    to_python_below(py, value, MAX_DEPTH)
}

fn to_rhai_below(value: &Bound<'_, PyAny>, levels: usize) -> PyResult<Dynamic> {
    if value.is_none() {
        return Ok(Dynamic::UNIT);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_str()?.into());
    }
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(truth.is_true().into());
    }
    if let Ok(number) = value.cast::<PyInt>() {
        return integer(number);
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        return Ok(number.value().into());
    }
    if let Ok(list) = value.cast::<PyList>() {
        return array(list.iter(), levels);
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return array(tuple.iter(), levels);
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        return map(dict, levels);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Dynamic::from_blob(bytes.as_bytes().to_vec()));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Dynamic::from_blob(bytes.to_vec()));
    }
    if let Ok(range) = value.cast::<PyRange>() {
        return exclusive_range(range);
    }
    Ok(Dynamic::from(Handle(Arc::new(value.clone().unbind()))))
}

fn integer(number: &Bound<'_, PyInt>) -> PyResult<Dynamic> {
    number.extract::<INT>().map(Dynamic::from).map_err(|_| {
        PyOverflowError::new_err("an integer of Rhai has 64 bits, and this one does not fit")
    })
}

fn array<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, levels: usize) -> PyResult<Dynamic> {
    let below = one_less(levels)?;
    let items: PyResult<Array> = items.map(|item| to_rhai_below(&item, below)).collect();
    Ok(Dynamic::from_array(items?))
}

fn map(dict: &Bound<'_, PyDict>, levels: usize) -> PyResult<Dynamic> {
    let below = one_less(levels)?;
    let mut map = Map::new();
    for (key, value) in dict.iter() {
        let Ok(name) = key.cast::<PyString>() else {
            let kind = key.get_type().name()?;
            let text = format!("a key of a Rhai map is a string, not of type {kind}");
            return Err(PyTypeError::new_err(text));
        };
        map.insert(name.to_str()?.into(), to_rhai_below(&value, below)?);
    }
    Ok(Dynamic::from_map(map))
}

fn exclusive_range(range: &Bound<'_, PyRange>) -> PyResult<Dynamic> {
    let py = range.py();
    let part = |name| range.getattr(name)?.extract::<INT>();
    if part(intern!(py, "step"))? != 1 {
        let text = "a range of Rhai has the step 1; hand over a list of another one";
        return Err(PyValueError::new_err(text));
    }
    Ok(Dynamic::from(
        part(intern!(py, "start"))?..part(intern!(py, "stop"))?,
    ))
}

fn to_python_below(py: Python<'_>, value: &Dynamic, levels: usize) -> PyResult<Py<PyAny>> {
    if value.is_unit() {
        return Ok(py.None());
    }
    if let Ok(truth) = value.as_bool() {
        return Ok(PyBool::new(py, truth).to_owned().into_any().unbind());
    }
    if let Ok(number) = value.as_int() {
        return Ok(number.into_pyobject(py)?.into_any().unbind());
    }
    if let Ok(number) = value.as_float() {
        return Ok(PyFloat::new(py, number).into_any().unbind());
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(PyString::new(py, text.as_str()).into_any().unbind());
    }
    if let Ok(character) = value.as_char() {
        return Ok(character.into_pyobject(py)?.into_any().unbind());
    }
    if let Ok(items) = value.as_array_ref() {
        let below = one_less_to_leave(py, levels)?;
        let list = PyList::empty(py);
        for item in items.iter() {
            list.append(to_python_below(py, item, below)?)?;
        }
        return Ok(list.into_any().unbind());
    }
    if let Ok(map) = value.as_map_ref() {
        let below = one_less_to_leave(py, levels)?;
        let dict = PyDict::new(py);
        for (key, item) in map.iter() {
            dict.set_item(key.as_str(), to_python_below(py, item, below)?)?;
        }
        return Ok(dict.into_any().unbind());
    }
    if let Ok(bytes) = value.as_blob_ref() {
        return Ok(PyBytes::new(py, &bytes).into_any().unbind());
    }
    if let Some(byte) = value.read_lock::<u8>() {
        // One byte of a blob, as a loop over it gives them.
        return Ok((*byte).into_pyobject(py)?.into_any().unbind());
    }
    if let Some(handle) = value.read_lock::<Handle>() {
        return Ok(handle.0.clone_ref(py));
    }
    if let Some(range) = value.read_lock::<Range<INT>>() {
        return python_range(py, range.start, range.end);
    }
    if let Some(range) = value.read_lock::<RangeInclusive<INT>>() {
        return python_range(py, *range.start(), range.end().saturating_add(1));
    }
    let kind = kind(value);
    let text = format!("a {kind} cannot leave its script: it has no form outside");
    Err(no_form(py, text))
}

fn python_range(py: Python<'_>, start: INT, stop: INT) -> PyResult<Py<PyAny>> {
    Ok(
        PyRange::new(py, isize::try_from(start)?, isize::try_from(stop)?)?
            .into_any()
            .unbind(),
    )
}

/// What has no form in Python, in the words of the language.
fn kind(value: &Dynamic) -> &'static str {
    if value.is_fnptr() {
        "function"
    } else if value.is_timestamp() {
        "timestamp"
    } else {
        value.type_name()
    }
}

fn one_less(levels: usize) -> PyResult<usize> {
    levels
        .checked_sub(1)
        .ok_or_else(|| PyValueError::new_err(too_deep()))
}

fn one_less_to_leave(py: Python<'_>, levels: usize) -> PyResult<usize> {
    levels.checked_sub(1).ok_or_else(|| no_form(py, too_deep()))
}

fn too_deep() -> String {
    format!("a value is nested more than {MAX_DEPTH} deep")
}
