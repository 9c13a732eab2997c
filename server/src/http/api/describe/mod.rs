//! The routes of the API with their descriptions, and the OpenAPI 3.1 document derived from them.
//!
//! A route cannot be added without a description. The schemas are those of the types that requests
//! are parsed into and responses are serialized from.
//!
//! `schemars` derives the schemas of routes and of events. `utoipa` has a derive of its own, so
//! each shared type would be described twice, and the two could diverge. Limits, timeouts and
//! headers do not come from `tower-http`: the limit of a body depends on its route and applies
//! before the body is read, and refusals have the form of all errors.

pub(super) mod reference;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    handler::Handler,
    http::Method,
    middleware::from_fn_with_state,
    response::Response,
    routing::{MethodFilter, on},
};
use futures_util::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    MAX_BODY_BYTES, PREFIX,
    error::{ErrorBody, Takes, refuse_more},
};
use crate::{
    auth::Permission,
    service::{
        Command,
        bounds::{UserId, bound_integers},
    },
};

/// Routes with their descriptions.
pub(crate) struct Routes<S = ()> {
    router: Router<S>,
    described: Vec<Described>,
}

/// Calls the handler of a route.
type Call<S> = Arc<dyn Fn(Request, S) -> BoxFuture<'static, Response> + Send + Sync>;

struct Described {
    method: Method,
    path: &'static str,
    operation: Operation,
}

/// Rules for requests to a route, applied before its handler runs.
#[derive(Debug, Default)]
pub(super) struct RouteRules {
    /// Maximum bytes of bodies, by path.
    limits: HashMap<String, usize>,
    needs: HashMap<(Method, String), RequiredPermissions>,
    /// The paths whose bodies are read while they arrive, which can take long.
    pub(super) streams: HashSet<String>,
    /// The names of the operations that the audit log records.
    recorded: HashMap<(Method, String), &'static str>,
    /// The paths whose only variable part is a user id, and where that user may read without a
    /// permission.
    pub(super) own: HashSet<String>,
}

/// The permissions that a route requires.
#[derive(Clone, Debug, Default)]
pub(super) struct RequiredPermissions {
    /// Permissions that every request needs.
    pub(super) always: Vec<Permission>,
    /// Finds an additional permission that depends on the body.
    pub(super) by_body: Option<FindPermission>,
    /// Additional permissions that depend on stored data.
    pub(super) by_state: &'static [Permission],
}

impl RouteRules {
    /// Returns the maximum bytes of a body for the matched path of a route.
    pub(super) fn body_bytes(&self, path: &str) -> usize {
        self.limits.get(path).copied().unwrap_or(MAX_BODY_BYTES)
    }

    /// Returns the name of an operation that the audit log records, by method and matched path.
    pub(super) fn recorded(&self, method: &Method, path: &str) -> Option<&'static str> {
        let route = (method.clone(), path.to_owned());
        self.recorded.get(&route).copied()
    }

    /// Returns the permissions that a route requires, by method and matched path.
    pub(super) fn needs(&self, method: &Method, path: &str) -> RequiredPermissions {
        let route = (method.clone(), path.to_owned());
        self.needs.get(&route).cloned().unwrap_or_default()
    }
}

/// The description of one route.
pub(crate) struct Operation {
    id: &'static str,
    summary: &'static str,
    permission: Permission,
    /// The permission of the request's command, which is required too.
    of_command: Option<Permission>,
    by_body: Option<FindPermission>,
    by_state: &'static [Permission],
    is_own: bool,
    is_publication: bool,
    is_recorded: bool,
    segments: Vec<Segment>,
    query: Option<Describe>,
    body: Option<Describe>,
    body_bytes: Option<usize>,
    /// The media types of a body that is text and is read while it arrives.
    streams: &'static [&'static str],
    status: u16,
    answer: Option<Describe>,
    errors: Vec<u16>,
}

/// A variable part of a path.
struct Segment {
    name: &'static str,
    about: &'static str,
    schema: fn() -> Schema,
}

/// Finds the additional permission for a request body.
pub(super) type FindPermission = fn(&[u8]) -> Option<Permission>;

type Describe = fn(&mut SchemaGenerator) -> Schema;

impl Operation {
    /// Creates an operation that requires a permission and returns 204 without a body.
    pub(crate) const fn new(
        id: &'static str,
        summary: &'static str,
        permission: Permission,
    ) -> Self {
        Self {
            id,
            summary,
            permission,
            of_command: None,
            by_body: None,
            by_state: &[],
            is_own: false,
            is_publication: false,
            is_recorded: false,
            segments: Vec::new(),
            query: None,
            body: None,
            body_bytes: None,
            streams: &[],
            status: 204,
            answer: None,
            errors: Vec::new(),
        }
    }

    /// Adds the variable part `{id}`, a user who may read there without the permission. It must be
    /// the only variable part, and the command of the route must name the same user.
    pub(crate) fn own_by_id(mut self, about: &'static str) -> Self {
        self.is_own = true;
        self.segment::<UserId>("id", about)
    }

    /// Records the operation in the audit log although it only reads.
    pub(crate) const fn recorded(mut self) -> Self {
        self.is_recorded = true;
        self
    }

    /// Adds a variable part of the path with a type.
    pub(crate) fn segment<T: JsonSchema>(
        mut self,
        name: &'static str,
        about: &'static str,
    ) -> Self {
        self.segments.push(Segment {
            name,
            about,
            schema: || inline().into_root_schema_for::<T>(),
        });
        self
    }

    /// Adds a variable part of the path that is a UUID.
    pub(crate) fn id(self, name: &'static str, about: &'static str) -> Self {
        self.segment::<Uuid>(name, about)
    }

    /// Sets the command of the request, whose permission the caller needs as well.
    pub(crate) const fn gives<C: Command>(mut self) -> Self {
        self.of_command = C::PERMISSION;
        self
    }

    /// Sets the function that finds an additional permission for a request body.
    pub(crate) const fn needs_by_body(mut self, find: FindPermission) -> Self {
        self.by_body = Some(find);
        self
    }

    /// Sets additional permissions that a request needs depending on stored data.
    pub(crate) const fn needs_by_state(mut self, permissions: &'static [Permission]) -> Self {
        self.by_state = permissions;
        self
    }

    /// Marks an operation that publishes data of users, such as a message or a price. The audit log
    /// records the other operations that change something.
    pub(crate) const fn publishes(mut self) -> Self {
        self.is_publication = true;
        self
    }

    /// Sets the query parameters: the fields of a type.
    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(|_| inline().into_root_schema_for::<T>());
        self
    }

    /// Sets the type of the request body.
    pub(crate) fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// Sets the maximum bytes of the request body. Default: 64 KiB.
    pub(crate) const fn body_bytes(mut self, bytes: usize) -> Self {
        self.body_bytes = Some(bytes);
        self
    }

    /// Sets the media types of a body that is text of any length, which the route reads while it
    /// arrives. The route ends requests that take too long.
    pub(crate) const fn streams(mut self, kinds: &'static [&'static str]) -> Self {
        self.streams = kinds;
        self
    }

    /// Sets the status and the type of the response body.
    pub(crate) fn answer<T: JsonSchema>(mut self, status: u16) -> Self {
        self.status = status;
        self.answer = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// Adds an error status that not all operations have.
    pub(crate) fn refuses(mut self, status: u16) -> Self {
        self.errors.push(status);
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            described: Vec::new(),
        }
    }

    /// Adds a route below `/api/v1`. Query parameters and bodies that its description does not
    /// include are refused.
    ///
    /// # Panics
    ///
    /// If the route already exists or the method is not a common one.
    pub(crate) fn on<H: Handler<T, S>, T: 'static>(
        self,
        method: Method,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        let call = move |request, state| Box::pin(handler.clone().call(request, state)) as _;
        self.add(method, path, Arc::new(call), operation)
    }

    /// Adds a route. This is compiled once, not for each handler.
    fn add(
        mut self,
        method: Method,
        path: &'static str,
        call: Call<S>,
        operation: Operation,
    ) -> Self {
        let handler = move |State(state): State<S>, request: Request| call(request, state);
        let filter = MethodFilter::try_from(method.clone()).expect("a common method");
        let takes = Takes {
            query: operation.query.is_some(),
            body: operation.body.is_some() || !operation.streams.is_empty(),
        };
        let mut route = on(filter, handler);
        if !(takes.query && takes.body) {
            route = route.route_layer(from_fn_with_state(takes, refuse_more));
        }
        if let Some(bytes) = operation.body_bytes {
            route = route.layer(DefaultBodyLimit::max(bytes));
        }
        self.router = self.router.route(path, route);
        self.described.push(Described {
            method,
            path,
            operation,
        });
        self
    }

    /// Sets the state of all handlers.
    pub(crate) fn with_state(self, state: S) -> Routes {
        Routes {
            router: self.router.with_state(state),
            described: self.described,
        }
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.described.extend(other.described);
        self
    }

    /// Returns the routes, their description, and the rules for requests.
    pub(super) fn into_parts(self) -> (Router<S>, Description, RouteRules) {
        let mut rules = RouteRules::default();
        for Described {
            method,
            path,
            operation,
        } in &self.described
        {
            let path = format!("{PREFIX}{path}");
            if let Some(bytes) = operation.body_bytes {
                rules.limits.insert(path.clone(), bytes);
            }
            if operation.is_own {
                rules.own.insert(path.clone());
            }
            if !operation.streams.is_empty() {
                rules.streams.insert(path.clone());
            }
            let changes = !method.is_safe() && !operation.is_publication;
            if changes || operation.is_recorded {
                let route = (method.clone(), path.clone());
                rules.recorded.insert(route, operation.id);
            }
            let always = [Some(operation.permission), operation.of_command];
            let needs = RequiredPermissions {
                always: always.into_iter().flatten().collect(),
                by_body: operation.by_body,
                by_state: operation.by_state,
            };
            rules.needs.insert((method.clone(), path), needs);
        }
        (self.router, Description(self.described), rules)
    }
}

/// The description of all routes.
pub(super) struct Description(Vec<Described>);

impl Description {
    /// Returns the OpenAPI document. This takes a tenth of a second or more, mostly for the
    /// patterns of fields.
    pub(super) fn document(&self) -> Value {
        document(&self.0)
    }
}

/// Returns a generator for parameter schemas, which contain no references.
fn inline() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator()
}

fn components(settings: SchemaSettings) -> SchemaGenerator {
    let settings = settings.with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    settings.into_generator()
}

fn document(routes: &[Described]) -> Value {
    let mut bodies = components(SchemaSettings::draft2020_12().for_deserialize());
    let mut answers = components(SchemaSettings::draft2020_12().for_serialize());
    let error = answers.subschema_for::<ErrorBody>();
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(format!("{PREFIX}{}", route.path));
        let path = path.or_insert_with(|| json!({}));
        let method = route.method.as_str().to_ascii_lowercase();
        if let Some(path) = path.as_object_mut() {
            path.insert(method, describe(route, &mut bodies, &mut answers));
        }
    }
    let mut schemas = bodies.take_definitions(true);
    schemas.extend(answers.take_definitions(true));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Roomcast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The HTTP API of a Roomcast server for services. See also `docs/http-api.md`.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "The request was refused. The body contains the reason.",
                    "content": {"application/json": {"schema": error}},
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of the caller. Requests without a valid token get 401.",
                },
            },
        },
    });
    bound_integers(&mut document);
    document
}

fn describe(
    route: &Described,
    bodies: &mut SchemaGenerator,
    answers: &mut SchemaGenerator,
) -> Value {
    let Operation {
        id,
        summary,
        permission,
        of_command: _,
        by_body: _,
        by_state: _,
        is_own,
        is_publication: _,
        is_recorded: _,
        segments,
        query,
        body,
        body_bytes: _,
        streams,
        status,
        answer,
        errors,
    } = &route.operation;
    let mut parameters: Vec<Value> = segments.iter().map(segment).collect();
    if let Some(query) = query {
        parameters.extend(of_query(&query(bodies)));
    }
    // The errors of every route. A body or an idempotency key adds more below.
    let mut refusals = vec![400, 401, 403, 408, 429, 500, 503];
    let mut request_body = Value::Null;
    if let Some(body) = body {
        refusals.extend([413, 415]);
        request_body = json!({
            "required": true,
            "content": {"application/json": {"schema": body(bodies)}},
        });
    }
    if !streams.is_empty() {
        refusals.extend([413, 415]);
        let text = json!({"schema": {"type": "string"}});
        let content = streams
            .iter()
            .map(|kind| ((*kind).to_owned(), text.clone()));
        let content: Map<String, Value> = content.collect();
        request_body = json!({"required": true, "content": content});
    }
    // A key belongs to a request including its body, which would have to be whole.
    if !route.method.is_safe() && streams.is_empty() {
        refusals.extend([409, 413]);
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A request that is repeated with the same key and body within 24 hours is not executed \
                            again. It gets the same response, as long as the caller has the permissions for it.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }));
    }
    refusals.extend(errors);
    let mut responses = Map::new();
    for status in refusals {
        responses.insert(
            status.to_string(),
            json!({"$ref": "#/components/responses/Error"}),
        );
    }
    let good = match answer {
        Some(answer) => json!({
            "description": "Done.",
            "content": {"application/json": {"schema": answer(answers)}},
        }),
        None => json!({"description": "Done."}),
    };
    responses.insert(status.to_string(), good);
    let mut takes = format!("Requires the permission `{}`.", permission.as_str());
    if *is_own {
        takes += " Users need no permission for their own data.";
    }
    let mut operation = json!({
        "operationId": id,
        "summary": summary,
        "description": takes,
        "x-permission": permission.as_str(),
        "parameters": parameters,
        "requestBody": request_body,
        "responses": responses,
    });
    if let Some(fields) = operation.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    operation
}

fn segment(segment: &Segment) -> Value {
    let mut schema = (segment.schema)();
    schema.remove("title");
    schema.remove("description");
    json!({
        "name": segment.name,
        "in": "path",
        "required": true,
        "description": segment.about,
        "schema": schema,
    })
}

/// Returns the fields of a type as query parameters. An optional parameter may be absent but not
/// null.
fn of_query(schema: &Schema) -> Vec<Value> {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
    let properties = schema.get("properties").and_then(Value::as_object);
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.as_object().cloned().unwrap_or_default();
        let about = schema.remove("description").unwrap_or_default();
        let kind = schema.get("type").and_then(|kinds| kinds.get(0)).cloned();
        if let Some(kind) = kind {
            schema.insert("type".into(), kind);
        }
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
        json!({
            "name": name,
            "in": "query",
            "required": is_required(name),
            "description": about.as_str().unwrap_or_default(),
            "schema": schema,
        })
    };
    properties.into_iter().flatten().map(parameter).collect()
}
