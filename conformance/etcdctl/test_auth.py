"""auth, user, role and --user: every command and every printer."""

from conformance.etcdctl.pair import Pair

ROOT = "--user=root:secret"
FORMATS = ["simple", "json", "fields"]


def test_users_and_roles(fresh: Pair):
    for form in FORMATS:
        # etcdctl has no printer of fields for these.
        may = "!" if form == "fields" else ""
        fresh.script(f"""
            {may} auth status -w {form}
            {may} user list -w {form}
            role list -w {form}
            user add ann-{form}:a -w {form}
            user add bob-{form} --no-password -w {form}
            user add cat-{form} --new-user-password=c -w {form}
            role add reader-{form} -w {form}
            role grant-permission reader-{form} read key -w {form}
            role grant-permission reader-{form} write a b -w {form}
            role grant-permission reader-{form} readwrite some/ --prefix -w {form}
            role grant-permission reader-{form} read from --from-key -w {form}
            role get reader-{form} -w {form}
            user grant-role ann-{form} reader-{form} -w {form}
            user grant-role ann-{form} root -w {form}
            {may} user get ann-{form} -w {form}
            {may} user list -w {form}
            role list -w {form}
            user revoke-role ann-{form} root -w {form}
            role revoke-permission reader-{form} key -w {form}
            role revoke-permission reader-{form} a b -w {form}
            role revoke-permission reader-{form} some/ --prefix -w {form}
            role revoke-permission reader-{form} from --from-key -w {form}
            role get reader-{form} -w {form}
            role delete reader-{form} -w {form}
            {may} user get ann-{form} -w {form}
            user delete bob-{form} -w {form}
            {may} auth status -w {form}
        """)


def test_details_of_a_user(fresh: Pair):
    fresh.script("""
        user add ann:a
        role add reader
        role grant-permission reader read key
        user grant-role ann reader
        user get ann --detail
    """)


def test_what_is_refused_while_it_is_off(fresh: Pair):
    fresh.script("""
        user add ann:a
        role add reader
        ! user add ann:a
        ! user add :a
        ! user get nobody
        ! user delete nobody
        ! user grant-role nobody reader
        ! user grant-role ann nothing
        ! user revoke-role ann reader
        ! role add reader
        ! role get nothing
        ! role delete nothing
        ! role grant-permission nothing read key
        ! role grant-permission reader write b a
        ! role grant-permission reader nonsense key
        ! role revoke-permission reader key
        get key --user=ann:a
        ! auth enable
    """)


def test_switching_it_on_and_off(fresh: Pair):
    answers = fresh.script(f"""
        user add root:secret
        auth enable
        auth status {ROOT}
        ! put key 1
        ! get key
        ! put key 1 --user=root:wrong
        ! put key 1 --user=nobody:x
        ! put key 1 --user=root --password=wrong
        put key 1 {ROOT}
        get key --user=root --password=secret
        get key {ROOT} -w json
        user list {ROOT}
        role list {ROOT}
        role get root {ROOT}
        ! user delete root {ROOT}
        ! role delete root {ROOT}
        ! user revoke-role root root {ROOT}
        ! auth disable
        auth disable {ROOT}
        auth status
        get key
        get key {ROOT}
    """)
    assert answers[1].stdout == "Authentication Enabled\n"


def test_a_user_with_some_keys(fresh: Pair):
    ann = "--user=ann:a"
    fresh.script(f"""
        user add root:secret
        user add ann:a
        role add some
        role grant-permission some readwrite some/ --prefix
        user grant-role ann some
        auth enable
        put some/a 1 {ann}
        get some/a {ann}
        get some/ --prefix {ann}
        ! get s --prefix {ann}
        ! get other {ann}
        ! put other 1 {ann}
        ! del "" --from-key {ann}
        del some/ --prefix {ann}
        user get ann {ann}
        role get some {ann}
        ! user get root {ann}
        ! role get other {ann}
        ! user list {ann}
        ! role list {ann}
        ! compaction 1 {ann}
        ! defrag {ann}
        ! endpoint hashkv {ann}
        ! member add x --peer-urls=http://127.0.0.1:1 {ann}
        ! auth disable {ann}
        member list {ann}
        alarm list {ann}
        alarm disarm {ann}
        ! lease list
        lease list {ann}
        ! check perf
        role revoke-permission some some/ --prefix {ROOT}
        ! get some/a {ann}
        user delete ann {ROOT}
        ! get some/a {ann}
    """)


def test_status_and_health_of_an_endpoint(fresh: Pair):
    fresh.script(f"""
        user add root:secret
        auth enable
        endpoint health {ROOT}
        endpoint status {ROOT} -w json
        endpoint status {ROOT} -w table
        endpoint hashkv {ROOT}
        ! endpoint health
        ! endpoint status
    """)


def test_a_watch_without_permission(fresh: Pair):
    fresh.script("""
        user add root:secret
        user add ann:a
        auth enable
        ! watch key --user=ann:a
    """)
