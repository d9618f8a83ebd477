locals {
  # All that the host needs of S3. The role grants it, and the gateway endpoint lets nothing else pass.
  s3_privileges = {
    ReadLanding = {
      actions   = ["s3:GetObject"]
      resources = ["${local.bucket_arn}${var.landing_bucket}/${var.landing_prefix}*"]
    }
    ListLanding = {
      actions   = ["s3:ListBucket"]
      resources = ["${local.bucket_arn}${var.landing_bucket}"]
    }
    ReadWriteBackup = {
      actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
      resources = ["${local.bucket_arn}${var.backup_bucket}/*"]
    }
    ListBackup = {
      actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
      resources = ["${local.bucket_arn}${var.backup_bucket}"]
    }
    ReadArtifacts = {
      actions   = ["s3:GetObject"]
      resources = ["${local.bucket_arn}${var.artifact_bucket}/*"]
    }
    ListArtifacts = {
      actions   = ["s3:ListBucket"]
      resources = ["${local.bucket_arn}${var.artifact_bucket}"]
    }
  }
}

data "aws_iam_policy_document" "host" {
  # checkov:skip=CKV_AWS_356:The actions of SSM's agent know no resources; those on S3 and logs name theirs.
  # checkov:skip=CKV_AWS_111:As above: the agent's channels are no resources.
  dynamic "statement" {
    for_each = local.s3_privileges

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }

  dynamic "statement" {
    for_each = length(var.bucket_kms_key_arns) > 0 ? [1] : []

    content {
      sid       = "DecryptLanding"
      actions   = ["kms:Decrypt"]
      resources = var.bucket_kms_key_arns
    }
  }

  # What a session needs, and nothing of Parameter Store, which AmazonSSMManagedInstanceCore would add.
  dynamic "statement" {
    for_each = var.ssm_access ? [1] : []

    content {
      sid = "SessionManager"
      actions = [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
        "ec2messages:AcknowledgeMessage",
        "ec2messages:DeleteMessage",
        "ec2messages:FailMessage",
        "ec2messages:GetEndpoint",
        "ec2messages:GetMessages",
        "ec2messages:SendReply",
      ]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = aws_cloudwatch_log_group.host

    content {
      sid       = "WriteLogs"
      actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
      resources = [statement.value.arn, "${statement.value.arn}:*"]
    }
  }
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "host" {
  name_prefix        = "${var.name}-"
  description        = "The btc_ingest database host"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "host" {
  name   = "host"
  role   = aws_iam_role.host.id
  policy = data.aws_iam_policy_document.host.json
}

resource "aws_iam_instance_profile" "host" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.host.name
}

resource "aws_cloudwatch_log_group" "host" {
  # checkov:skip=CKV_AWS_158:CloudWatch encrypts logs with its own key; the server's log holds no ticks and no password.
  count = var.cloudwatch_logs ? 1 : 0

  name              = "/${var.name}/host"
  retention_in_days = 400
}
