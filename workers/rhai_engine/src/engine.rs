//! An engine and its scripts, as Python sees them.

use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rhai::packages::{Package, StandardPackage};
use rhai::{
    Dynamic, EvalAltResult, Module, OptimizationLevel, Position, Scope, Shared, Token, AST,
};

use crate::asked::Asked;
use crate::calls::{check_name, debug, print, read_names, register_exit, register_sleep, Function};
use crate::cancel::CancelToken;
use crate::errors::{failed, not_compiled, panicked};
use crate::handles;
use crate::run::{terminated, End, Run, Stop};
use crate::values::{to_python, to_rhai, Handle};

/// How deep expressions may be set to nest: beyond, the parser's own stack would overflow.
const MOST_EXPRESSION_DEPTH: usize = 256;
/// The words by which a script would reach beyond itself.
const FORBIDDEN: [&str; 3] = ["eval", "import", "export"];

/// A word that Rhai reserves for nothing, and that objects are made by: `db.new("note")`.
const FREED: &str = "new";

/// A script that was compiled; it may run often, on several threads at a time.
#[pyclass(frozen, module = "horus_rhai")]
pub struct Script {
    ast: AST,
    asked: Arc<Asked>,
    /// Those of its engine: what they take is not asked of objects.
    functions: Arc<[Function]>,
}

/// What scripts can use, and within which limits.
#[pyclass(frozen, module = "horus_rhai")]
pub struct Engine {
    engine: rhai::Engine,
    functions: Arc<[Function]>,
    max_operations: u64,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (
        functions,
        *,
        names = None,
        max_operations = 0,
        max_call_levels = 64,
        max_expression_depth = 64,
        max_function_expression_depth = 32,
        max_variables = 10_000,
        max_functions = 1_000,
        max_string_size = 1 << 20,
        max_array_size = 50_000,
        max_map_size = 50_000,
    ))]
    #[allow(clippy::too_many_arguments)] // each is a limit with a name of its own
    fn new(
        functions: &Bound<'_, PyAny>,
        names: Option<&Bound<'_, PyAny>>,
        max_operations: u64,
        max_call_levels: usize,
        max_expression_depth: usize,
        max_function_expression_depth: usize,
        max_variables: usize,
        max_functions: usize,
        max_string_size: usize,
        max_array_size: usize,
        max_map_size: usize,
    ) -> PyResult<Self> {
        for depth in [max_expression_depth, max_function_expression_depth] {
            if !(1..=MOST_EXPRESSION_DEPTH).contains(&depth) {
                return Err(PyValueError::new_err(format!(
                    "expressions may be set to nest 1 to {MOST_EXPRESSION_DEPTH} deep, not {depth}"
                )));
            }
        }
        let mut engine = rhai::Engine::new_raw();
        engine
            .set_max_call_levels(max_call_levels)
            .set_max_expr_depths(max_expression_depth, max_function_expression_depth)
            .set_max_variables(max_variables)
            .set_max_functions(max_functions)
            .set_max_string_size(max_string_size)
            .set_max_array_size(max_array_size)
            .set_max_map_size(max_map_size)
            .set_max_modules(0);
        // What is written is what runs: the optimiser drops statements without effect,
        // also those that would fail.
        engine.set_optimization_level(OptimizationLevel::None);
        for word in FORBIDDEN {
            engine.disable_symbol(word);
        }
        engine.register_global_module(standard());
        let functions: Arc<[Function]> = read_functions(functions)?.into();
        let own = own_module(&mut engine, &functions);
        engine.register_global_module(own);
        if let Some(names) = names {
            show_names(&mut engine, read_constants(names)?);
        }
        hook(&mut engine, functions.clone());
        Ok(Self {
            engine,
            functions,
            max_operations,
        })
    }

    /// Compile a script.
    fn compile(&self, py: Python<'_>, source: &str) -> PyResult<Script> {
        let source = without_shebang(source);
        let compile = || {
            let mut ast = self.engine.compile(source)?;
            let asked = Asked::give(&mut ast, |name, count| {
                may_be_of_objects(name, count, &self.functions)
            });
            Ok((ast, asked))
        };
        match py.detach(|| catch_unwind(AssertUnwindSafe(compile))) {
            Ok(Ok((ast, asked))) => Ok(Script {
                ast,
                asked: asked.into(),
                functions: self.functions.clone(),
            }),
            Ok(Err(error)) => Err(not_compiled(py, &error)),
            Err(panic) => Err(panicked(py, &*panic)),
        }
    }

    /// Run a script to its end and return its value.
    #[pyo3(signature = (script, variables = None, *, print = None, debug = None, timeout = None, cancel = None))]
    #[allow(clippy::too_many_arguments)] // as above
    fn run(
        &self,
        py: Python<'_>,
        script: &Script,
        variables: Option<&Bound<'_, PyAny>>,
        print: Option<Py<PyAny>>,
        debug: Option<Py<PyAny>>,
        timeout: Option<f64>,
        cancel: Option<&CancelToken>,
    ) -> PyResult<Py<PyAny>> {
        if !Arc::ptr_eq(&script.functions, &self.functions) {
            let text = "the script was compiled by another engine; compile it by this one";
            return Err(PyValueError::new_err(text));
        }
        let timeout = timeout.map(duration).transpose()?;
        let mut scope = self.read_variables(variables)?;
        let (print, debug) = (print.map(Arc::new), debug.map(Arc::new));
        let cancel = cancel.map(|token| token.0.clone());
        let asked = script.asked.clone();
        let (for_print, for_debug) = (print.clone(), debug.clone());
        let (result, end) = py.detach(|| {
            let most = self.max_operations;
            let run = Run::new(asked, for_print, for_debug, cancel, timeout, most);
            let run = Rc::new(run);
            let result = run.enter(|| {
                catch_unwind(AssertUnwindSafe(|| {
                    if run.must_end() {
                        return Err(terminated(Position::NONE));
                    }
                    self.engine
                        .eval_ast_with_scope::<Dynamic>(&mut scope, &script.ast)
                }))
            });
            (result, run.end_of())
        });
        match result {
            Err(panic) => Err(panicked(py, &*panic)),
            Ok(result) => settle(py, result, end),
        }
    }
}

impl Engine {
    fn read_variables(&self, variables: Option<&Bound<'_, PyAny>>) -> PyResult<Scope<'static>> {
        let mut scope = Scope::new();
        let Some(variables) = variables else {
            return Ok(scope);
        };
        let py = variables.py();
        for (name, value) in read_names(variables)? {
            check_name(&name)?;
            let value = self.read_value(value.bind(py))?;
            scope.push_dynamic(name, value);
        }
        Ok(scope)
    }

    /// Read a value that has to keep the limits, as one of the script's own.
    fn read_value(&self, value: &Bound<'_, PyAny>) -> PyResult<Dynamic> {
        let py = value.py();
        let value = to_rhai(value)?;
        self.engine
            .ensure_data_size_within_limits(&value)
            .map_err(|error| failed(py, *error, End::default()))?;
        Ok(value)
    }
}

/// What a run has come to: a stop goes before whatever its script made of it.
fn settle(
    py: Python<'_>,
    result: Result<Dynamic, Box<EvalAltResult>>,
    end: End,
) -> PyResult<Py<PyAny>> {
    match (&end.stop, result) {
        (Some(Stop::Exit(value)), _) => to_python(py, value),
        (None, Ok(value)) => to_python(py, &value),
        (Some(_), Ok(_)) => Err(failed(py, *terminated(Position::NONE), end)),
        (_, Err(error)) => Err(failed(py, *error, end)),
    }
}

fn read_functions(functions: &Bound<'_, PyAny>) -> PyResult<Vec<Function>> {
    let py = functions.py();
    read_names(functions)?
        .into_iter()
        .map(|(name, given)| Function::read(name, given.bind(py)))
        .collect()
}

fn read_constants(names: &Bound<'_, PyAny>) -> PyResult<HashMap<String, Dynamic>> {
    let py = names.py();
    let mut constants = HashMap::new();
    for (name, value) in read_names(names)? {
        check_name(&name)?;
        constants.insert(name, to_rhai(value.bind(py))?);
    }
    Ok(constants)
}

/// Let scripts see names everywhere, also in functions and closures.
fn show_names(engine: &mut rhai::Engine, constants: HashMap<String, Dynamic>) {
    #[allow(deprecated)] // it is not: Rhai marks so what may change with its version
    engine.on_var(move |name, index, context| {
        // Of its own variables Rhai mostly knows the place.
        if index > 0 {
            return Ok(None);
        }
        let found = constants.get(name);
        Ok(found.filter(|_| !context.scope().contains(name)).cloned())
    });
}

/// The module of all that is not Rhai's own: it is searched before the standard one.
fn own_module(engine: &mut rhai::Engine, functions: &[Function]) -> Shared<Module> {
    let mut module = Module::new();
    handles::register(engine, &mut module);
    register_exit(&mut module);
    register_sleep(&mut module);
    for function in functions {
        function.register(&mut module);
    }
    module.build_index();
    module.into()
}

/// Rhai's standard package, which all engines share.
fn standard() -> Shared<Module> {
    static STANDARD: OnceLock<Shared<Module>> = OnceLock::new();
    STANDARD
        .get_or_init(|| StandardPackage::new().as_shared_module())
        .clone()
}

/// Tie an engine to the run that it is at.
fn hook(engine: &mut rhai::Engine, functions: Arc<[Function]>) {
    engine
        .on_progress(|_| Run::tick().then_some(Dynamic::UNIT))
        .on_print(print)
        .on_debug(|text, _, position| debug(text, position));
    #[allow(deprecated)] // it is not: Rhai marks so what may change with its version
    engine.on_parse_token(|token, _, _| match token {
        Token::Reserved(word) if word.as_str() == FREED => Token::Identifier(word),
        other => other,
    });
    #[allow(deprecated)] // as above
    engine.on_missing_function(move |name, arguments, _, context| {
        call_missing(name, arguments, context.engine(), &functions)
    });
}

/// Call a function of an object whose name the script has made up while it ran.
///
/// Rhai asks here whenever a function has failed, also by an error of its own, and
/// says neither which nor where; what exists elsewhere is therefore sorted out first.
fn call_missing(
    name: &str,
    arguments: &mut [&mut Dynamic],
    engine: &rhai::Engine,
    functions: &[Function],
) -> Result<Option<Dynamic>, Box<EvalAltResult>> {
    let count = arguments.len();
    let Some((object, rest)) = arguments.split_first_mut() else {
        return Ok(None);
    };
    let Some(handle) = object.read_lock::<Handle>().map(|handle| handle.clone()) else {
        return Ok(None);
    };
    let is_done = Run::current().is_some_and(|run| run.has_ended() || run.asked.has(name, count));
    if is_done || !may_be_of_objects(name, count, functions) {
        return Ok(None);
    }
    let found = handles::find_and_call(&handle, name, rest)?;
    if let Some(value) = &found {
        engine.ensure_data_size_within_limits(value)?;
    }
    Ok(found)
}

/// Whether objects are asked for a function by this name.
fn may_be_of_objects(name: &str, count: usize, functions: &[Function]) -> bool {
    let exists = handles::is_of_everything(name, count)
        || functions.iter().any(|function| function.takes(name, count));
    let is_operator = !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    !exists && !is_operator
}

fn duration(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        let text = format!("a timeout is a number of seconds from 0 on, not {seconds}");
        return Err(PyValueError::new_err(text));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// A first line that names an interpreter is none of the script; lines keep their numbers.
fn without_shebang(source: &str) -> &str {
    if !source.starts_with("#!") {
        return source;
    }
    source.find('\n').map_or("", |end| &source[end..])
}
