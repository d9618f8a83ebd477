"""Every promise of infra/database/terraform, and for each the changes that break it.

A promise is a function that fails when the files do not keep it. `broken_by` names changes: file, old text, new text.
Each promise is tested on the files as they are, where it must hold, and on every changed copy, where it must fail.
"""

import re

import pytest

from terraform_files import Files, changed

PROMISES = []
MUTATIONS = []


def promise(*broken_by):
    def register(check):
        PROMISES.append(check)
        MUTATIONS.extend(
            pytest.param(check, *change, id=f"{check.__name__}-{number}") for number, change in enumerate(broken_by, 1)
        )
        assert broken_by, "a promise that nothing breaks proves nothing"
        return check

    return register


@pytest.fixture(scope="module")
def files():
    return Files()


# ── Network ──


@promise(
    (
        "network.tf",
        'vpc_id = local.vpc_id\n\n  tags = { Name = "${var.name}-private" }\n}\n\nresource "aws_route_table_a',
        (
            'vpc_id = local.vpc_id\n  route {\n    cidr_block = "0.0.0.0/0"\n    gateway_id = "igw-0"\n '
            ' }\n}\n\nresource "aws_route_table_a'
        ),
    ),
    (
        "network.tf",
        'resource "aws_route_table" "private"',
        'resource "aws_internet_gateway" "out" {\n}\n\nresource "aws_route_table" "private"',
    ),
    (
        "network.tf",
        'resource "aws_route_table" "private"',
        'resource "aws_nat_gateway" "out" {\n}\n\nresource "aws_route_table" "private"',
    ),
    (
        "network.tf",
        'resource "aws_route_table" "private"',
        'resource "aws_route" "out" {\n}\n\nresource "aws_route_table" "private"',
    ),
)
def the_subnet_has_no_internet_route(files):
    ways_out = {
        "aws_route",
        "aws_internet_gateway",
        "aws_egress_only_internet_gateway",
        "aws_nat_gateway",
        "aws_eip",
        "aws_vpc_peering_connection",
        "aws_ec2_transit_gateway_vpc_attachment",
    }
    assert not ways_out & files.kinds()
    assert list(files.resources("aws_route_table")) == ["private"]
    assert "route" not in files.resource("aws_route_table", "private")


@promise(
    (
        "network.tf",
        "route_table_id = aws_route_table.private.id",
        "route_table_id = aws_vpc.this[0].main_route_table_id",
    )
)
def the_subnet_uses_the_table_without_routes(files):
    association = files.resource("aws_route_table_association", "private")
    assert association == {"subnet_id": "${aws_subnet.private.id}", "route_table_id": "${aws_route_table.private.id}"}
    assert files.resource("aws_instance", "host")["subnet_id"] == "${aws_subnet.private.id}"


@promise(
    ("network.tf", "map_public_ip_on_launch = false", "map_public_ip_on_launch = true"),
    ("instance.tf", "associate_public_ip_address = false", "associate_public_ip_address = true"),
)
def the_host_has_no_public_address(files):
    assert files.resource("aws_subnet", "private")["map_public_ip_on_launch"] is False
    assert files.resource("aws_instance", "host")["associate_public_ip_address"] is False


@promise(
    ("network.tf", "count = var.vpc_id == null ? 1 : 0\n\n  cidr_block", "count = 1\n\n  cidr_block"),
    ("network.tf", "vpc_id                  = local.vpc_id", "vpc_id                  = aws_vpc.this[0].id"),
)
def an_existing_vpc_can_be_used(files):
    assert files.resource("aws_vpc", "this")["count"] == "${var.vpc_id == null ? 1 : 0}"
    assert files.resource("aws_subnet", "private")["vpc_id"] == "${local.vpc_id}"
    assert files.local("vpc_id") == "${var.vpc_id == null ? aws_vpc.this[0].id : var.vpc_id}"


# ── Endpoints ──


@promise(
    ("endpoints.tf", 'vpc_endpoint_type = "Gateway"', 'vpc_endpoint_type = "Interface"'),
    ("endpoints.tf", "route_table_ids   = [aws_route_table.private.id]", "route_table_ids   = []"),
)
def s3_is_reached_through_a_gateway_endpoint(files):
    endpoint = files.resource("aws_vpc_endpoint", "s3")
    assert endpoint["vpc_endpoint_type"] == "Gateway"
    assert endpoint["service_name"] == "com.amazonaws.${var.region}.s3"
    assert endpoint["route_table_ids"] == ["${aws_route_table.private.id}"]


@promise(
    ("endpoints.tf", "  policy            = data.aws_iam_policy_document.endpoint.json\n", ""),
    (
        "endpoints.tf",
        "for_each = local.s3_privileges",
        'for_each = { All = { actions = ["s3:*"], resources = ["*"] } }',
    ),
    ("endpoints.tf", 'variable = "aws:PrincipalAccount"', 'variable = "aws:SourceAccount"'),
)
def the_endpoint_lets_pass_what_the_role_may_do_and_nothing_else(files):
    assert files.resource("aws_vpc_endpoint", "s3")["policy"] == "${data.aws_iam_policy_document.endpoint.json}"
    document = files.resource("aws_iam_policy_document", "endpoint", "data")
    assert "statement" not in document
    [statement] = [entry["statement"] for entry in document["dynamic"]]
    assert statement["for_each"] == "${local.s3_privileges}"
    [content] = statement["content"]
    assert content["resources"] == "${statement.value.resources}" and content["actions"] == "${statement.value.actions}"
    assert content["condition"][0]["variable"] == "aws:PrincipalAccount"


@promise(
    (
        "iam.tf",
        (
            'actions   = ["s3:GetObject"]\n      resources ='
            ' ["${local.bucket_arn}${var.landing_bucket}/${var.landing_prefix}*"]'
        ),
        (
            'actions   = ["s3:GetObject", "s3:PutObject"]\n      resources ='
            ' ["${local.bucket_arn}${var.landing_bucket}/${var.landing_prefix}*"]'
        ),
    ),
    ("iam.tf", "${var.landing_bucket}/${var.landing_prefix}*", "*"),
    (
        "iam.tf",
        'actions   = ["s3:GetObject"]\n      resources = ["${local.bucket_arn}${var.artifact_bucket}/*"]',
        'actions   = ["s3:*"]\n      resources = ["${local.bucket_arn}${var.artifact_bucket}/*"]',
    ),
    ("iam.tf", '"s3:PutObject", ', ""),
    (
        "iam.tf",
        'actions   = ["s3:ListBucket"]\n      resources = ["${local.bucket_arn}${var.landing_bucket}"]',
        (
            'actions   = ["s3:ListBucket", "s3:PutBucketPolicy"]\n      resources ='
            ' ["${local.bucket_arn}${var.landing_bucket}"]'
        ),
    ),
)
def the_host_may_read_landing_read_and_write_backup_and_read_artifacts(files):
    may = {}
    for statement in files.local("s3_privileges").values():
        for resource in statement["resources"]:
            may.setdefault(resource, set()).update(statement["actions"])
    arn = "${local.bucket_arn}"
    assert may == {
        arn + "${var.landing_bucket}/${var.landing_prefix}*": {"s3:GetObject"},
        arn + "${var.landing_bucket}": {"s3:ListBucket"},
        arn + "${var.backup_bucket}/*": {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"},
        arn + "${var.backup_bucket}": {"s3:ListBucket", "s3:GetBucketLocation"},
        arn + "${var.artifact_bucket}/*": {"s3:GetObject"},
        arn + "${var.artifact_bucket}": {"s3:ListBucket"},
    }


@promise(
    ("iam.tf", "for_each = local.s3_privileges", 'for_each = { A = { actions = ["s3:*"], resources = ["*"] } }'),
    ("iam.tf", '"ssm:UpdateInstanceInformation",', '"ssm:*",'),
    ("iam.tf", '"ec2messages:SendReply",', '"ec2messages:SendReply",\n        "ec2:DescribeInstances",'),
    (
        "iam.tf",
        'resource "aws_iam_instance_profile"',
        'resource "aws_iam_role_policy_attachment" "more" {\n}\n\nresource "aws_iam_instance_profile"',
    ),
    ("iam.tf", "resources = var.bucket_kms_key_arns", 'resources = ["*"]'),
)
def the_role_may_do_nothing_else(files):
    assert not {"aws_iam_role_policy_attachment", "aws_iam_user", "aws_iam_policy_attachment"} & files.kinds()
    assert set(files.resources("aws_iam_role_policy")) == {"host"}
    document = files.resource("aws_iam_policy_document", "host", "data")
    assert "statement" not in document
    s3, kms, ssm, logs = [entry["statement"] for entry in document["dynamic"]]
    assert s3["for_each"] == "${local.s3_privileges}"
    assert kms["content"][0]["actions"] == ["kms:Decrypt"]
    assert kms["content"][0]["resources"] == "${var.bucket_kms_key_arns}"
    assert all(
        re.fullmatch(r"(ssmmessages|ec2messages):[A-Z]\w+|ssm:UpdateInstanceInformation", action)
        for action in ssm["content"][0]["actions"]
    )
    assert logs["for_each"] == "${aws_cloudwatch_log_group.host}"
    assert "*" not in logs["content"][0]["resources"]


@promise(
    (
        "endpoints.tf",
        'var.ssm_access ? ["ssm", "ssmmessages", "ec2messages"]',
        'var.ssm_access ? ["ssm", "ec2messages"]',
    ),
    ("endpoints.tf", "private_dns_enabled = true", "private_dns_enabled = false"),
    ("endpoints.tf", 'var.cloudwatch_logs ? ["logs"] : []', "[]"),
)
def ssm_and_logs_have_interface_endpoints(files):
    services = files.local("interface_services")
    assert 'var.ssm_access ? ["ssm", "ssmmessages", "ec2messages"] : []' in services
    assert 'var.cloudwatch_logs ? ["logs"] : []' in services
    endpoint = files.resource("aws_vpc_endpoint", "interface")
    assert endpoint["vpc_endpoint_type"] == "Interface" and endpoint["private_dns_enabled"] is True
    assert endpoint["security_group_ids"] == ["${aws_security_group.endpoints[0].id}"]


@promise(
    (
        "variables.tf",
        "type        = bool\n  default     = true\n\n  validation {\n    condition     = var.ssm_access ||",
        "type        = bool\n  default     = false\n\n  validation {\n    condition     = var.ssm_access ||",
    ),
    (
        "variables.tf",
        "condition     = var.ssm_access || (length(var.ssh_security_groups) > 0 && var.key_name != null)",
        "condition     = true",
    ),
    ("instance.tf", '"amazon-ssm-agent" : ""', '"" : ""'),
    ("variables.tf", 'contains(["ami", "bundle"], var.ssm_agent)', "true"),
)
def there_is_always_a_way_in(files):
    variables = files.named("variable")
    assert variables["ssm_access"]["default"] is True
    assert (
        variables["ssm_access"]["validation"][0]["condition"]
        == "${var.ssm_access || (length(var.ssh_security_groups) > 0 && var.key_name != null)}"
    )
    assert 'contains(["ami", "bundle"], var.ssm_agent)' in str(variables["ssm_agent"]["validation"][0]["condition"])
    assert (
        files.local("setup_env")["EXTRA_PACKAGES"]
        == '${var.ssm_access && var.ssm_agent == "bundle" ? "amazon-ssm-agent" : ""}'
    )


# ── Security groups ──


@promise(
    ("security_groups.tf", "from_port                    = 5432", "from_port                    = 5431"),
    ("security_groups.tf", "for_each = var.client_security_groups", 'for_each = { all = "sg-0" }'),
    (
        "security_groups.tf",
        (
            '  referenced_security_group_id = each.value\n  ip_protocol                  = "tcp"\n  from_port          '
            "          = 5432"
        ),
        (
            '  cidr_ipv4                    = "0.0.0.0/0"\n  ip_protocol                  = "tcp"\n  from_port         '
            "           = 5432"
        ),
    ),
    ("security_groups.tf", "from_port                    = 22\n", "from_port                    = 0\n"),
    (
        "security_groups.tf",
        (
            'lifecycle {\n    create_before_destroy = true\n  }\n}\n\nresource "aws_vpc_security_group_ingress_rule"'
            ' "postgresql"'
        ),
        'ingress {\n    from_port = 0\n  }\n}\n\nresource "aws_vpc_security_group_ingress_rule" "postgresql"',
    ),
)
def only_listed_groups_reach_postgresql_and_ssh(files):
    rules = files.resources("aws_vpc_security_group_ingress_rule")
    assert set(rules) == {"postgresql", "ssh", "endpoints"}
    for name, variable, port in [("postgresql", "client_security_groups", 5432), ("ssh", "ssh_security_groups", 22)]:
        rule = rules[name]
        assert rule["for_each"] == "${var.%s}" % variable
        assert rule["referenced_security_group_id"] == "${each.value}"
        assert (rule["from_port"], rule["to_port"], rule["ip_protocol"]) == (port, port, "tcp")
    assert all("cidr_ipv4" not in rule and "cidr_ipv6" not in rule for rule in rules.values())
    assert "aws_security_group_rule" not in files.kinds()
    assert all(not {"ingress", "egress"} & set(group) for group in files.resources("aws_security_group").values())


@promise(
    ("security_groups.tf", "prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id", 'cidr_ipv4         = "0.0.0.0/0"'),
    (
        "security_groups.tf",
        (
            'description                  = "The interface endpoints"\n  referenced_security_group_id ='
            " aws_security_group.endpoints[0].id"
        ),
        'description                  = "The interface endpoints"\n  cidr_ipv4 = "10.0.0.0/8"',
    ),
    (
        "security_groups.tf",
        'resource "aws_security_group" "endpoints"',
        'resource "aws_vpc_security_group_egress_rule" "more" {\n}\n\nresource "aws_security_group" "endpoints"',
    ),
)
def the_host_reaches_only_s3_and_the_interface_endpoints(files):
    rules = files.resources("aws_vpc_security_group_egress_rule")
    assert set(rules) == {"s3", "endpoints"}
    assert rules["s3"]["prefix_list_id"] == "${aws_vpc_endpoint.s3.prefix_list_id}"
    assert rules["endpoints"]["referenced_security_group_id"] == "${aws_security_group.endpoints[0].id}"
    for rule in rules.values():
        assert not {"cidr_ipv4", "cidr_ipv6"} & set(rule)
        assert (rule["from_port"], rule["to_port"], rule["ip_protocol"]) == (443, 443, "tcp")


# ── Host ──


@promise(
    ("instance.tf", 'http_tokens                 = "required"', 'http_tokens                 = "optional"'),
    ("instance.tf", "http_put_response_hop_limit = 1", "http_put_response_hop_limit = 2"),
)
def metadata_needs_a_token_and_one_hop(files):
    [options] = files.resource("aws_instance", "host")["metadata_options"]
    assert options["http_tokens"] == "required" and options["http_put_response_hop_limit"] == 1


@promise(
    ("instance.tf", "encrypted   = true", "encrypted   = false"),
    ("instance.tf", "encrypted         = true", "encrypted         = false"),
    ("instance.tf", 'volume_type = "gp3"', 'volume_type = "gp2"'),
    ("instance.tf", 'type              = "gp3"', 'type              = "st1"'),
)
def disks_are_encrypted_gp3(files):
    [root] = files.resource("aws_instance", "host")["root_block_device"]
    data = files.resource("aws_ebs_volume", "data")
    assert root["encrypted"] is True and root["volume_type"] == "gp3"
    assert data["encrypted"] is True and data["type"] == "gp3"


@promise(
    ("instance.tf", "prevent_destroy = true", "prevent_destroy = false"),
    (
        "instance.tf",
        "volume_id   = aws_ebs_volume.data.id",
        "volume_id   = aws_instance.host.root_block_device[0].volume_id",
    ),
    ("instance.tf", "ignore_changes = [ami, user_data_base64]", "ignore_changes = []"),
)
def the_data_has_a_disk_of_its_own_that_outlives_the_host(files):
    data = files.resource("aws_ebs_volume", "data")
    assert data["lifecycle"] == [{"prevent_destroy": True}]
    attachment = files.resource("aws_volume_attachment", "data")
    assert attachment["volume_id"] == "${aws_ebs_volume.data.id}"
    assert attachment["instance_id"] == "${aws_instance.host.id}"
    assert "ami" in files.resource("aws_instance", "host")["lifecycle"][0]["ignore_changes"]


@promise(
    ("variables.tf", 'default     = "t3.medium"', 'default     = "m7i.large"'),
    ("instance.tf", "cpu_credits = var.cpu_credits", 'cpu_credits = "unlimited"'),
    ("alarms.tf", 'metric_name         = "CPUSurplusCreditBalance"', 'metric_name         = "CPUUtilization"'),
    ("alarms.tf", "alarm_actions       = var.alarm_actions", "alarm_actions       = []"),
)
def a_t3_medium_with_an_alarm_on_surplus_credits(files):
    assert files.named("variable")["instance_type"]["default"] == "t3.medium"
    assert files.resource("aws_instance", "host")["credit_specification"] == [{"cpu_credits": "${var.cpu_credits}"}]
    alarm = files.resource("aws_cloudwatch_metric_alarm", "surplus_credits")
    assert alarm["metric_name"] == "CPUSurplusCreditBalance" and alarm["threshold"] == 0
    assert alarm["comparison_operator"] == "GreaterThanThreshold"
    assert alarm["alarm_actions"] == "${var.alarm_actions}"


# ── Buckets ──


@promise(
    ("buckets.tf", 'variable = "aws:sourceVpce"', 'variable = "aws:sourceVpc"'),
    ("buckets.tf", 'test     = "ArnNotLike"', 'test     = "ArnLike"'),
    (
        "buckets.tf",
        "concat([data.aws_iam_session_context.deployer.issuer_arn], var.admin_role_arns)",
        "var.admin_role_arns",
    ),
    (
        "buckets.tf",
        'resource "aws_s3_bucket_policy" "own" {\n  for_each   = aws_s3_bucket.own',
        'resource "aws_s3_bucket_policy" "own" {\n  for_each   = { backup = aws_s3_bucket.own["backup"] }',
    ),
)
def own_buckets_are_closed_outside_the_endpoint_but_for_the_deployer(files):
    [only, tls] = files.resource("aws_iam_policy_document", "own_bucket", "data")["statement"]
    assert only["effect"] == "Deny" and only["actions"] == ["s3:*"]
    conditions = {(entry["test"], entry["variable"]): entry["values"] for entry in only["condition"]}
    assert conditions == {
        ("StringNotEquals", "aws:sourceVpce"): ["${aws_vpc_endpoint.s3.id}"],
        ("ArnNotLike", "aws:PrincipalArn"): "${local.admins}",
    }
    assert tls["condition"][0]["variable"] == "aws:SecureTransport"
    assert "data.aws_iam_session_context.deployer.issuer_arn" in files.local("admins")
    assert files.resource("aws_s3_bucket_policy", "own")["for_each"] == "${aws_s3_bucket.own}"


@promise(
    ("buckets.tf", 'status = "Enabled"\n  }', 'status = "Suspended"\n  }'),
    ("buckets.tf", "noncurrent_days = var.backup_versions_days", "noncurrent_days = 1"),
    ("buckets.tf", "block_public_acls       = true", "block_public_acls       = false"),
    ("buckets.tf", "    abort_incomplete_multipart_upload {\n      days_after_initiation = 7\n    }\n", ""),
)
def own_buckets_keep_versions_for_a_time_and_are_never_public(files):
    [versioning] = files.resource("aws_s3_bucket_versioning", "own")["versioning_configuration"]
    assert versioning["status"] == "Enabled"
    [rule] = files.resource("aws_s3_bucket_lifecycle_configuration", "own")["rule"]
    assert rule["noncurrent_version_expiration"][0]["noncurrent_days"] == "${var.backup_versions_days}"
    assert "expiration" not in rule and rule["abort_incomplete_multipart_upload"]
    block = files.resource("aws_s3_bucket_public_access_block", "own")
    assert all(
        block[name] is True
        for name in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"]
    )


@promise(
    (
        "buckets.tf",
        "buckets    = { backup = var.backup_bucket, artifact = var.artifact_bucket }",
        "buckets    = { backup = var.backup_bucket, artifact = var.artifact_bucket, landing = var.landing_bucket }",
    ),
    (
        "buckets.tf",
        'resource "aws_s3_object" "bundle" {',
        (
            'resource "aws_s3_bucket_policy" "landing" {\n  bucket = var.landing_bucket\n}\n\nresource "aws_s3_object"'
            ' "bundle" {'
        ),
    ),
)
def the_landing_bucket_is_not_touched(files):
    assert files.local("buckets") == {"backup": "${var.backup_bucket}", "artifact": "${var.artifact_bucket}"}
    kinds = [kind for kind in files.kinds() if kind.startswith("aws_s3_")]
    assert all("landing" not in str(body) for kind in kinds for body in files.resources(kind).values())
    assert files.resource("aws_s3_bucket", "own")["for_each"] == "${local.buckets}"


# ── Software ──


@promise(
    ("user_data.sh.tftpl", "/etc/btc_ingest/setup.env <<", "/tmp/setup.env <<"),
    ("user_data.sh.tftpl", 'ln -sfn /opt/btc_ingest/repo "$home/repo"', "true"),
    ("user_data.sh.tftpl", "/etc/skel/repo", "/opt/repo"),
    ("user_data.sh.tftpl", '--no-password "$DATABASE" "$DATABASE_USER"', '"$DATABASE" "$DATABASE_USER" secret'),
    ("user_data.sh.tftpl", '"$BUNDLE" /opt', '"https://example.com/bundle" /opt'),
    ("user_data.sh.tftpl", "set -euo pipefail", "set -u"),
)
def user_data_writes_the_settings_and_runs_the_setup_of_the_bundle(files):
    text = files.text("user_data.sh.tftpl")
    for part in [
        "set -euo pipefail",
        "cat >/etc/btc_ingest/setup.env <<",
        '--region "$S3_REGION" "$BUNDLE"',
        '"$home/repo"',
        "/etc/skel/repo",
        'infra/database/scripts/setup_timescale.sh --no-password "$DATABASE" "$DATABASE_USER"',
    ]:
        assert part in text


@promise(
    ("variables.tf", 'variable "name"', 'variable "database_password" {\n  type = string\n}\n\nvariable "name"'),
    (
        "instance.tf",
        "DATABASE_USER  = var.database_user",
        'DATABASE_USER  = var.database_user\n    DATABASE_PASSWORD = "x"',
    ),
)
def no_password_is_in_variables_state_or_user_data(files):
    assert not [name for name in files.named("variable") if "password" in name]
    assert not [name for name in files.local("setup_env") if "PASSWORD" in name]


@promise(
    ("instance.tf", "aws_vpc_endpoint.interface, ", ""),
    ("buckets.tf", "source      = var.bundle_file", 'source      = "bundle.tar"'),
    (
        "instance.tf",
        "s3://${var.artifact_bucket}/${aws_s3_object.bundle.key}",
        "s3://${var.artifact_bucket}/bundle.tar",
    ),
    ("instance.tf", "s3://${var.backup_bucket}/pgbackrest", "s3://${var.landing_bucket}/pgbackrest"),
)
def the_bundle_and_the_endpoints_are_there_before_the_host(files):
    assert files.resource("aws_s3_object", "bundle")["source"] == "${var.bundle_file}"
    assert files.local("setup_env")["BACKUP"] == "s3://${var.backup_bucket}/pgbackrest"
    assert files.local("setup_env")["BUNDLE"] == "s3://${var.artifact_bucket}/${aws_s3_object.bundle.key}"
    assert "${aws_vpc_endpoint.interface}" in files.resource("aws_instance", "host")["depends_on"]


@promise(
    ("outputs.tf", 'description = "The host."\n', ""), ("variables.tf", 'description = "Name of the database."\n', "")
)
def variables_and_outputs_are_documented(files):
    for block in ["variable", "output"]:
        for name, body in files.named(block).items():
            assert body.get("description", "").endswith((".", "now.")), f"{block} {name} has no description"


@promise(
    ("terraform.tfvars.example", 'landing_bucket  = "my-landing-zone"\n', ""),
    ("terraform.tfvars.example", "landing_prefix ", "landing_prefixes "),
)
def the_example_names_every_variable_without_a_default(files):
    given = set(re.findall(r"^(\w+) *=", files.text("terraform.tfvars.example"), re.M))
    variables = files.named("variable")
    assert given <= set(variables)
    assert {name for name, body in variables.items() if "default" not in body} <= given


@promise(
    ("variables.tf", "condition     = can(cidrnetmask(var.subnet_cidr))", "condition     = true"),
    (
        "variables.tf",
        (
            '  validation {\n    condition     = var.root_disk_gb >= 10\n    error_message = "root_disk_gb is at least'
            ' 10."\n  }\n'
        ),
        "",
    ),
)
def variables_are_validated(files):
    free = {
        "tags",
        "key_name",
        "ssh_security_groups",
        "cloudwatch_logs",
        "login_user",
        "alarm_actions",
        "termination_protection",
        "disk_kms_key_id",
        "bucket_kms_key_arns",
        "admin_role_arns",
    }
    for name, body in files.named("variable").items():
        if name not in free:
            assert body.get("validation"), f"variable {name} has no validation"
            assert all(rule["condition"] != "${true}" and rule["condition"] is not True for rule in body["validation"])


# ── What is excepted ──


@promise(
    (
        "security_groups.tf",
        "CKV_AWS_24:The source is a security group that is named, and never a range of addresses.",
        "CKV_AWS_24",
    )
)
def every_exception_from_checkov_is_explained(files):
    for file in files.directory.glob("*.tf"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if "checkov:skip" in line:
                assert re.search(r"checkov:skip=CKV2?_AWS_\d+:.{20,}\.$", line), f"{file.name}: {line.strip()}"


@pytest.mark.parametrize("check", PROMISES, ids=lambda check: check.__name__)
def test_promise(check, files):
    check(files)


@pytest.mark.parametrize("check, file, old, new", MUTATIONS)
def test_promise_fails_when_it_is_broken(check, file, old, new, tmp_path):
    broken = changed(tmp_path, file, old, new)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(broken)
