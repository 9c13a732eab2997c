// The Compose and Kubernetes files: valid by their schemas, and consistent with the server.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import Ajv from "ajv";
import { parse, parseAllDocuments } from "yaml";
import { must, read, root, run, start, target, until } from "./support.mjs";

const KUBERNETES = "deploy/kubernetes/roomcast.yaml";
const COMPOSE = "deploy/compose/compose.yaml";
const program = join(target, "debug/roomcast");

let folder;
before(() => (folder = mkdtempSync(join(tmpdir(), "roomcast-manifests-"))));
after(() => rmSync(folder, { recursive: true, force: true }));

const documents = () => parseAllDocuments(read(KUBERNETES)).map((document) => document.toJS());
const compose = () => parse(read(COMPOSE), { merge: true });

test("the Compose file is valid by the schema of the Compose specification", () => {
  const schema = join(root, "tests/install/node_modules/dclint/schemas/compose.schema.json");
  const { $schema, ...rest } = JSON.parse(readFileSync(schema, "utf8"));
  const validate = new Ajv({ strict: false, validateFormats: false }).compile(rest);
  assert.ok(validate(compose()), JSON.stringify(validate.errors));
  assert.ok(!validate({ services: { a: { imgae: "x" } } }));
});

test("every name in the Compose file is declared, and its files exist or are generated", () => {
  const { services, volumes, secrets } = compose();
  const mine = ["chat-1", "chat-2", "haproxy", "postgres", "redis", "prometheus", "alertmanager", "grafana"];
  assert.deepEqual(Object.keys(services).sort(), mine.sort());
  for (const service of Object.values(services)) {
    for (const volume of service.volumes ?? []) {
      const [from] = volume.split(":");
      if (from.startsWith("./")) read(join("deploy/compose", from));
      else if (!from.startsWith("../")) assert.ok(from in volumes, from);
    }
    for (const secret of service.secrets ?? []) assert.ok(secret in secrets, secret);
  }
  const generated = must("deploy/compose/secrets", [], { cwd: root });
  const required = new Set(read(COMPOSE).match(/(?<=\$\{)\w+(?=:\?\})/g));
  for (const name of required) assert.match(generated, new RegExp(`^${name}=\\w{50,}$`, "m"));
});

test("HAProxy, Prometheus and Alertmanager accept their files", () => {
  must("haproxy", ["-c", "-f", "deploy/compose/haproxy.cfg"], { cwd: root });
  must("promtool", ["check", "config", "--syntax-only", "deploy/compose/prometheus.yml"], { cwd: root });
  must("amtool", ["check-config", "deploy/compose/alertmanager.yml"], { cwd: root });
});

/** Checks settings as the server would at its start. */
function accepted(variables) {
  const env = { PATH: process.env.PATH, XDG_STATE_HOME: folder, ...variables };
  return run(program, ["check-config"], { env, cwd: folder });
}

/** The variables that the image sets. */
function imageVariables() {
  const [, text] = /^ENV ((?:.*\\\n)*.*)$/m.exec(read("deploy/container/Containerfile"));
  return Object.fromEntries(text.replaceAll("\\\n", " ").trim().split(/\s+/).map((pair) => pair.split(/=(.*)/)));
}

const SECRET = "0123456789abcdefghijklmnopqrstuvwxyz-of-a-test";

test("the server accepts every setting of the Compose file", () => {
  const { services } = compose();
  for (const name of ["chat-1", "chat-2"]) {
    const own = Object.entries(services[name].environment).map(([key, value]) => [
      key,
      value.replaceAll(/\$\{\w+:\?\}/g, SECRET).replaceAll(/\$\{\w+:-\}/g, ""),
    ]);
    const variables = { ...imageVariables(), ...Object.fromEntries(own) };
    assert.equal(variables.ROOMCAST_NODE__ADDRESS, `http://${name}:3000`);
    const { status, output } = accepted(variables);
    assert.equal(status, 0, output);
    assert.equal(accepted({ ...variables, ROOMCAST_SERVER__DRIAN: "1s" }).status, 2);
  }
});

/** The versions of Kubernetes: the oldest and the newest that are checked. */
const VERSIONS = ["1.32.0", "1.37.0"];

test("the manifests are valid by the schemas of Kubernetes", () => {
  const validate = join(process.env.INSTALL_PYTHON ?? join(target, "tools/install-python"), "bin/kubernetes-validate");
  const wrong = join(folder, "wrong.yaml");
  writeFileSync(wrong, read(KUBERNETES).replace("minReplicas", "minReplica"));
  for (const version of VERSIONS) {
    const check = (file) => run(validate, ["--strict", "-k", version, file], { cwd: root });
    const { status, output } = check(KUBERNETES);
    assert.equal(status, 0, output);
    assert.equal(output.match(/passed for resource/g).length, documents().length);
    assert.match(check(wrong).output, /minReplica/);
  }
});

test("the server accepts every setting of the manifests, and the parts refer to each other", () => {
  const of = (kind, name = "roomcast") => documents().find((item) => item.kind === kind && item.metadata.name === name);
  const { spec } = of("StatefulSet").spec.template;
  const [container] = spec.containers;
  const env = Object.fromEntries(container.env.map(({ name, value }) => [name, value ?? "roomcast-0"]));
  env.ROOMCAST_NODE__ADDRESS = env.ROOMCAST_NODE__ADDRESS.replace("$(ROOMCAST_NODE__ID)", env.ROOMCAST_NODE__ID);
  const secret = {
    ROOMCAST_STORE: "postgres://u:p@db/roomcast",
    ROOMCAST_ADAPTER__URL: "redis://broker:6379",
    ROOMCAST_AUTH__JWT__SECRET: SECRET,
    ROOMCAST_SERVER__METRICS_TOKEN: SECRET,
  };
  const { status, output } = accepted({ ...imageVariables(), ...of("ConfigMap").data, ...secret, ...env });
  assert.equal(status, 0, output);
  for (const name of Object.keys(secret)) assert.ok(read("docs/install.md").includes(`--from-literal=${name}=`), name);
  // The pods have names in the headless service, which is that of node.address.
  const { serviceName, selector } = of("StatefulSet").spec;
  assert.equal(of("Service", serviceName).spec.clusterIP, "None");
  assert.equal(env.ROOMCAST_NODE__ADDRESS, `http://roomcast-0.${serviceName}:3000`);
  const seconds = (key) => Number(/^(\d+)s$/.exec(of("ConfigMap").data[key])[1]);
  const stops = container.lifecycle.preStop.sleep.seconds + seconds("ROOMCAST_SERVER__DRAIN") + seconds("ROOMCAST_SERVER__GRACE");
  assert.ok(spec.terminationGracePeriodSeconds >= stops + 10);
  for (const labels of [of("Service").spec.selector, of("PodDisruptionBudget").spec.selector.matchLabels]) {
    assert.deepEqual(labels, selector.matchLabels);
  }
  assert.equal(of("HorizontalPodAutoscaler").spec.scaleTargetRef.name, of("StatefulSet").metadata.name);
});

test("the probes answer, and the metrics of the autoscaler exist", async (t) => {
  mkdirSync(join(folder, "state"));
  const env = { PATH: process.env.PATH, XDG_STATE_HOME: folder, ROOMCAST_LISTEN: "127.0.0.1:0", ROOMCAST_STORE: "sqlite:chat.db" };
  const server = start(t, program, ["serve"], { env, cwd: join(folder, "state") });
  await until(() => server.output().includes("listening on"), server.output);
  const url = (words) => new RegExp(`${words}\\S* ?\\S*?(http://[\\d.:]+)`).exec(server.output())[1];
  const [main, admin] = [url("listening on"), url("admin listener ready")];
  const documents_ = documents();
  const [container] = documents_.find(({ kind }) => kind === "StatefulSet").spec.template.spec.containers;
  for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"]) {
    assert.equal((await fetch(`${main}${container[probe].httpGet.path}`)).status, 200, probe);
  }
  const metrics = await (await fetch(`${admin}/metrics`)).text();
  const { spec } = documents_.find(({ kind }) => kind === "HorizontalPodAutoscaler");
  for (const { pods } of spec.metrics) assert.match(metrics, new RegExp(`^${pods.metric.name} \\d`, "m"));
});
