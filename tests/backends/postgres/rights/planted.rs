//! Attacks by other roles: triggers that use the functions of the schema, and objects planted in
//! it.

use super::Database;

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_triggers_refuse_to_run_for_foreign_tables() {
    let database = Database::new().await;
    let functions = database.sql(
        "SELECT proname FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prosecdef AND prorettype = 'trigger'::regtype",
    );
    assert!(functions.lines().count() > 10, "{functions}");
    let role = database.bare_role();
    // The tables are named like Roomcast's. Only the owner can create such triggers now. Triggers
    // that another role created before its right was revoked are the same.
    database.sql(&format!("CREATE SCHEMA theirs AUTHORIZATION {role}"));
    for table in ["foreign", "messages", "revocations"] {
        database.sql(&format!(
            "CREATE TABLE theirs.{table} (id bigint); ALTER TABLE theirs.{table} OWNER TO {role}"
        ));
    }
    let client = database.client_as(&role).await;
    for function in functions.lines() {
        for table in ["foreign", "messages", "revocations"] {
            for row in ["FOR EACH ROW", "FOR EACH STATEMENT"] {
                database.sql(&format!(
                    "DROP TRIGGER IF EXISTS planted ON theirs.{table};
                     CREATE TRIGGER planted AFTER INSERT ON theirs.{table} {row} EXECUTE FUNCTION {function}()"
                ));
                let insert = format!("INSERT INTO theirs.{table} VALUES (1)");
                let error = client.batch_execute(&insert).await.unwrap_err();
                let error = error.as_db_error().unwrap();
                assert_eq!(error.code().code(), "42501", "{function}: {error}");
                assert!(error.message().contains(function), "{error}");
            }
        }
    }
    assert_eq!(database.sql("SELECT count(*) FROM changes"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_publishing_functions_and_triggers_act_as_their_owner() {
    let database = Database::new().await;
    let callable = database.sql(
        "SELECT proname FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prosecdef AND prorettype <> 'trigger'::regtype
         ORDER BY proname",
    );
    let expected = [
        "roomcast_publish",
        "roomcast_publish_channel",
        "roomcast_publish_to_everyone",
        "roomcast_publish_to_user",
    ];
    assert_eq!(callable.lines().collect::<Vec<_>>(), expected);
    // `pg_temp` comes last, so temporary objects of the caller do not hide others. Functions and
    // operators are never looked up there.
    let unsafe_path = database.sql(
        "SELECT proname FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prosecdef
             AND proconfig IS DISTINCT FROM ARRAY['search_path=public, pg_temp']",
    );
    assert_eq!(unsafe_path, "");
}

/// Objects that PostgreSQL would prefer to built-in and Roomcast objects if types were left open.
const PLANTED: &str = "
    CREATE FUNCTION public.steal() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'planted, as %', current_user; END $$;
    CREATE FUNCTION public.planted(bigint, text) RETURNS text LANGUAGE sql AS 'SELECT public.steal()';
    CREATE FUNCTION public.planted(uuid, text) RETURNS text LANGUAGE sql AS 'SELECT public.steal()';
    CREATE FUNCTION public.planted(text, bigint) RETURNS text LANGUAGE sql AS 'SELECT public.steal()';
    CREATE FUNCTION public.planted(oid, regclass) RETURNS boolean LANGUAGE sql AS 'SELECT public.steal() IS NULL';
    CREATE OPERATOR public.|| (LEFTARG = bigint, RIGHTARG = text, FUNCTION = public.planted);
    CREATE OPERATOR public.|| (LEFTARG = uuid, RIGHTARG = text, FUNCTION = public.planted);
    CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = public.planted);
    CREATE OPERATOR public.<> (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.planted);
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.planted);
    CREATE FUNCTION public.planted_state(text[], text) RETURNS text[] LANGUAGE sql AS
        'SELECT ARRAY[public.steal()]';
    CREATE AGGREGATE public.array_agg(text) (SFUNC = public.planted_state, STYPE = text[]);
    CREATE FUNCTION public.roomcast_take_change(uuid, text, text, text, text) RETURNS void LANGUAGE sql AS
        'SELECT public.steal()'";

#[tokio::test(flavor = "multi_thread")]
async fn triggers_do_not_call_functions_planted_by_another_role() {
    let database = Database::new().await;
    // The default up to PostgreSQL 14.
    database.sql("GRANT CREATE ON SCHEMA public TO PUBLIC");
    let role = database.bare_role();
    let client = database.client_as(&role).await;
    client.batch_execute(PLANTED).await.unwrap();
    let stolen = client
        .query_one("SELECT 1::bigint || ':'::text", &[])
        .await
        .unwrap_err();
    assert!(stolen.to_string().contains("db error"), "{stolen}");
    let server = database.server_role();
    super::duties::perform(&database, &server).await.unwrap();
}
