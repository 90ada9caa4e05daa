//! Lists of members, as servers send them.

use serde_json::Value;

/// Returns a payload whose `clients` have no `since`, which no test can foresee. Each must have it.
pub fn without_since(payload: &Value) -> Value {
    let mut payload = payload.clone();
    if let Some(Value::Array(clients)) = payload.get_mut("clients") {
        for client in clients {
            let since = client.as_object_mut().and_then(|c| c.remove("since"));
            assert!(since.is_some_and(|since| since.is_u64()), "{client}");
        }
    }
    payload
}
