//! Which functions a script may ask of objects.
//!
//! The script gets them as functions of its own: those Rhai gives their place when they
//! fail, and finds them again without looking everywhere.

use std::any::TypeId;
use std::collections::{BTreeSet, HashMap};

use rhai::{
    ASTNode, Dynamic, Expr, FnCallExpr, FuncRegistration, Module, NativeCallContext, RhaiFunc,
    Shared, Stmt, AST,
};

use crate::calls::MAX_ARGUMENTS;
use crate::handles;
use crate::values::Handle;

/// Names, each with the counts of arguments that it is called with, the object among them.
#[derive(Default)]
pub struct Asked(HashMap<String, BTreeSet<usize>>);

impl Asked {
    /// Give a script what it may ask of objects, of all that `may_be_theirs`.
    pub fn give(ast: &mut AST, may_be_theirs: impl Fn(&str, usize) -> bool) -> Self {
        let mut asked = Self::default();
        let mut note = |name: &str, count: usize| {
            let is_new = (1..=MAX_ARGUMENTS).contains(&count) && !asked.has(name, count);
            if is_new && may_be_theirs(name, count) {
                asked.0.entry(name.to_owned()).or_default().insert(count);
            }
        };
        ast.walk(&mut |path| visit(path, &mut note));
        let mut module = Module::new();
        for (name, counts) in &asked.0 {
            for count in counts {
                register(&mut module, name, *count);
            }
        }
        ast.combine(AST::new_from_module(module));
        asked
    }

    /// Whether the script has a function of its own for this.
    pub fn has(&self, name: &str, count: usize) -> bool {
        let counts = self.0.get(name);
        counts.is_some_and(|counts| counts.contains(&count))
    }
}

/// Note the call that stands at the end of a path.
fn visit(path: &[ASTNode], note: &mut impl FnMut(&str, usize)) -> bool {
    match path.last() {
        Some(ASTNode::Expr(Expr::MethodCall(call, _))) => note_call(call, 1, note),
        Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) => {
            note_call(call, 0, note);
        }
        Some(ASTNode::Stmt(Stmt::BreakLoop(Some(value), ..))) => {
            // Rhai's own walk leaves out what a loop is left with.
            return value.walk(&mut Vec::new(), &mut |path: &[ASTNode]| visit(path, note));
        }
        _ => {}
    }
    true
}

fn note_call(call: &FnCallExpr, object: usize, note: &mut impl FnMut(&str, usize)) {
    note(&call.name, call.args.len() + object);
}

fn register(module: &mut Module, name: &str, count: usize) {
    let asked = name.to_owned();
    let call = move |_: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]| {
        let handle = arguments[0].clone_cast::<Handle>();
        handles::call(&handle, &asked, &arguments[1..])
    };
    let mut types = vec![TypeId::of::<Dynamic>(); count];
    types[0] = TypeId::of::<Handle>();
    FuncRegistration::new(name)
        .in_global_namespace()
        .set_into_module_raw(
            module,
            types,
            RhaiFunc::Pure {
                func: Shared::new(call),
                has_context: false,
                is_pure: true,
                is_volatile: true,
            },
        );
}
