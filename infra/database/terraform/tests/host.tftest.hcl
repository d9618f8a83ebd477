# Plans with a provider that asks no cloud: `terraform test` in infra/database/terraform. What every file promises is
# held by infra/tests/test_terraform.py; here is what only an evaluation shows: defaults, switches, validations.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_caller_identity" {
    defaults = { arn = "arn:aws:sts::123456789012:assumed-role/deployer/session" }
  }
  mock_data "aws_vpc" {
    defaults = { cidr_block = "172.31.0.0/16" }
  }
}

variables {
  region                 = "ap-northeast-2"
  availability_zone      = "ap-northeast-2a"
  ami_id                 = "ami-0123456789abcdef0"
  client_security_groups = { collectors = "sg-0a", lambda = "sg-0b", spark = "sg-0c" }
  landing_bucket         = "landing-zone"
  landing_prefix         = "Binance/"
  backup_bucket          = "backups"
  artifact_bucket        = "artifacts"
  bundle_file            = "btc_ingest-bundle.tar"
}

run "the_defaults_make_a_t3_medium_with_ssm_and_an_alarm_on_surplus_credits" {
  command = plan

  assert {
    condition     = aws_instance.host.instance_type == "t3.medium"
    error_message = "The default is not t3.medium."
  }
  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["ssm", "ssmmessages", "ec2messages"])
    error_message = "SSM lacks an endpoint, or there is one too many."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.surplus_credits) == 1
    error_message = "The alarm on surplus credits is missing."
  }
  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.postgresql) == ["collectors", "lambda", "spark"]
    error_message = "Not exactly the listed groups may connect."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 0 && length(aws_vpc.this) == 1
    error_message = "SSH is open, or no VPC is made."
  }
  assert {
    condition     = local.s3_privileges.ReadLanding.resources == ["${local.bucket_arn}landing-zone/Binance/*"]
    error_message = "More than the landing prefix may be read."
  }
}

run "user_data_fits_into_16_kb_and_names_the_disk" {
  command = plan

  override_resource {
    target          = aws_ebs_volume.data
    values          = { id = "vol-0123456789abcdef0" }
    override_during = plan
  }
  assert {
    condition     = length(aws_instance.host.user_data_base64) < 16384
    error_message = "User data is larger than EC2 takes."
  }
  assert {
    condition     = endswith(local.setup_env.DATA_DISK, "_vol0123456789abcdef0")
    error_message = "The data disk's name is not the one that udev gives it."
  }
}

run "an_existing_vpc_is_used_and_none_is_made" {
  command = plan

  variables {
    vpc_id = "vpc-0123456789abcdef0"
  }
  assert {
    condition     = length(aws_vpc.this) == 0 && aws_subnet.private.vpc_id == "vpc-0123456789abcdef0"
    error_message = "A VPC is made although one is given."
  }
  assert {
    condition     = local.setup_env.CLIENT_NETWORK == "172.31.0.0/16"
    error_message = "pg_hba is not made for the addresses of the existing VPC."
  }
}

run "standard_credits_have_an_alarm_of_their_own" {
  command = plan

  variables {
    cpu_credits = "standard"
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.no_credits) == 1
    error_message = "The alarm does not fit the credits."
  }
}

run "logs_add_an_endpoint_and_a_group" {
  command = plan

  variables {
    cloudwatch_logs = true
  }
  assert {
    condition     = contains(keys(aws_vpc_endpoint.interface), "logs") && length(aws_cloudwatch_log_group.host) == 1
    error_message = "The endpoint or the group of logs is missing."
  }
}

run "ssh_alone_is_a_way_in_and_needs_no_interface_endpoint" {
  command = plan

  variables {
    ssm_access          = false
    ssh_security_groups = { bastion = "sg-0d" }
    key_name            = "operator"
  }
  assert {
    condition     = length(aws_vpc_endpoint.interface) == 0 && length(aws_security_group.endpoints) == 0
    error_message = "There are interface endpoints that nothing uses."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 1
    error_message = "SSH is closed."
  }
}

run "no_way_in_is_refused" {
  command = plan

  variables {
    ssm_access = false
  }
  expect_failures = [var.ssm_access]
}

run "ssh_without_a_key_is_no_way_in" {
  command = plan

  variables {
    ssm_access          = false
    ssh_security_groups = { bastion = "sg-0d" }
  }
  expect_failures = [var.ssm_access]
}

run "no_client_is_refused" {
  command = plan

  variables {
    client_security_groups = {}
  }
  expect_failures = [var.client_security_groups]
}

run "an_address_range_is_no_client" {
  command = plan

  variables {
    client_security_groups = { world = "0.0.0.0/0" }
  }
  expect_failures = [var.client_security_groups]
}

run "one_bucket_for_two_purposes_is_refused" {
  command = plan

  variables {
    artifact_bucket = "landing-zone"
  }
  expect_failures = [var.artifact_bucket]
}

run "a_zone_of_another_region_is_refused" {
  command = plan

  variables {
    availability_zone = "us-east-1a"
  }
  expect_failures = [var.availability_zone]
}

run "odd_values_are_refused" {
  command = plan

  variables {
    region               = "Seoul"
    name                 = "-"
    vpc_id               = "my-vpc"
    vpc_cidr             = "10.0.0.0"
    subnet_cidr          = "10.0.0.0"
    ami_id               = "debian"
    ssm_agent            = "none"
    instance_type        = "medium"
    cpu_credits          = "endless"
    root_disk_gb         = 2
    data_disk_gb         = 2
    data_disk_iops       = 100
    data_disk_throughput = 1
    landing_bucket       = "s3://landing"
    landing_prefix       = "Binance"
    backup_bucket        = "Backups"
    backup_versions_days = 0
    bundle_file          = "bundle.zip"
    database             = "Market!"
    database_user        = "ml-ops"
  }
  expect_failures = [
    var.region, var.name, var.vpc_id, var.vpc_cidr, var.subnet_cidr, var.ami_id, var.ssm_agent,
    var.instance_type, var.cpu_credits, var.root_disk_gb, var.data_disk_gb, var.data_disk_iops,
    var.data_disk_throughput, var.landing_bucket, var.landing_prefix, var.backup_bucket, var.backup_versions_days,
    var.bundle_file, var.database, var.database_user,
  ]
}
