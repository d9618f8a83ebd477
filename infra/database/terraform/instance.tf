locals {
  # Everything that the setup needs to know, but no password.
  setup_env = {
    DATABASE       = var.database
    DATABASE_USER  = var.database_user
    BUNDLE         = "s3://${var.artifact_bucket}/${aws_s3_object.bundle.key}"
    ALLOW          = "s3://${var.landing_bucket}/${var.landing_prefix}"
    S3_REGION      = var.region
    BACKUP         = "s3://${var.backup_bucket}/pgbackrest"
    CLIENT_NETWORK = local.vpc_cidr
    DATA_DISK      = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.data.id, "-", "")}"
    EXTRA_PACKAGES = var.ssm_access && var.ssm_agent == "bundle" ? "amazon-ssm-agent" : ""
  }
}

resource "aws_instance" "host" {
  ami                         = var.ami_id
  instance_type               = var.instance_type
  key_name                    = var.key_name
  subnet_id                   = aws_subnet.private.id
  associate_public_ip_address = false
  vpc_security_group_ids      = [aws_security_group.database.id]
  iam_instance_profile        = aws_iam_instance_profile.host.name
  disable_api_termination     = var.termination_protection
  ebs_optimized               = true
  monitoring                  = true

  user_data_base64 = base64gzip(templatefile("${path.module}/user_data.sh.tftpl", {
    setup_env  = local.setup_env
    login_user = var.login_user
    s3_get     = file("${path.module}/../scripts/lib/s3_get.py")
  }))

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  credit_specification {
    cpu_credits = var.cpu_credits
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.root_disk_gb
    encrypted   = true
    kms_key_id  = var.disk_kms_key_id
  }

  tags = { Name = var.name }

  # A newer image or script must not replace a running database.
  lifecycle {
    ignore_changes = [ami, user_data_base64]
  }

  depends_on = [aws_route_table_association.private, aws_vpc_endpoint.interface, aws_iam_role_policy.host]
}

resource "aws_ebs_volume" "data" {
  # checkov:skip=CKV_AWS_189:disk_kms_key_id takes a key of the customer; the default is the account's own.
  availability_zone = var.availability_zone
  type              = "gp3"
  size              = var.data_disk_gb
  iops              = var.data_disk_iops
  throughput        = var.data_disk_throughput
  encrypted         = true
  kms_key_id        = var.disk_kms_key_id

  tags = { Name = "${var.name}-data" }

  # It holds every tick. Take this line away first if you mean to destroy it.
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "data" {
  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.data.id
  instance_id = aws_instance.host.id
}
