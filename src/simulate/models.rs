//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde_json::{Value, json};

use super::reply::Problem;

/// The name that is listed where any name is served.
const ANY: &str = "simulated";

/// Says whether a model is served.
pub(super) fn is_served(models: &[String], name: &str) -> bool {
    models.is_empty() || models.iter().any(|model| model == name)
}

/// Writes the list.
pub(super) fn list(models: &[String]) -> Value {
    let data: Vec<_> = if models.is_empty() {
        vec![one(ANY)]
    } else {
        models.iter().map(|model| one(model)).collect()
    };
    json!({"object": "list", "data": data})
}

/// Writes one model.
pub(super) fn get(models: &[String], name: &str) -> Result<Value, Problem> {
    if is_served(models, name) { Ok(one(name)) } else { Err(Problem::no_model(name)) }
}

fn one(name: &str) -> Value {
    // A fixed day, 2026-01-01: a list that changed with the clock could not be compared.
    json!({"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "overnight"})
}
