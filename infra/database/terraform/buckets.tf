# The backup bucket and the artifact bucket are made here. The landing bucket is the collectors': it is only read.

data "aws_caller_identity" "deployer" {}

data "aws_partition" "here" {}

# The role behind the session that applies this: its ARN is what aws:PrincipalArn holds.
data "aws_iam_session_context" "deployer" {
  arn = data.aws_caller_identity.deployer.arn
}

locals {
  buckets    = { backup = var.backup_bucket, artifact = var.artifact_bucket }
  bucket_arn = "arn:${data.aws_partition.here.partition}:s3:::"
  admins     = concat([data.aws_iam_session_context.deployer.issuer_arn], var.admin_role_arns)
}

resource "aws_s3_bucket" "own" {
  # checkov:skip=CKV_AWS_18:Access logs need a third bucket; CloudTrail's data events are the account's decision.
  # checkov:skip=CKV_AWS_144:A copy in another region is the account's decision: it doubles the cost of backups.
  # checkov:skip=CKV_AWS_145:Encrypted with S3's own key, so that a restore needs no further privilege on a KMS key.
  # checkov:skip=CKV2_AWS_62:Nothing waits for objects of these buckets.
  for_each = local.buckets
  bucket   = each.value
}

resource "aws_s3_bucket_public_access_block" "own" {
  for_each = aws_s3_bucket.own

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "own" {
  for_each = aws_s3_bucket.own
  bucket   = each.value.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "own" {
  for_each = aws_s3_bucket.own
  bucket   = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "own" {
  for_each   = aws_s3_bucket.own
  bucket     = each.value.id
  depends_on = [aws_s3_bucket_versioning.own]

  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.backup_versions_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

data "aws_iam_policy_document" "own_bucket" {
  for_each = local.buckets

  statement {
    sid       = "OnlyThroughTheEndpoint"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = ["${local.bucket_arn}${each.value}", "${local.bucket_arn}${each.value}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "StringNotEquals"
      variable = "aws:sourceVpce"
      values   = [aws_vpc_endpoint.s3.id]
    }
    condition {
      test     = "ArnNotLike"
      variable = "aws:PrincipalArn"
      values   = local.admins
    }
  }

  statement {
    sid       = "OnlyByTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = ["${local.bucket_arn}${each.value}", "${local.bucket_arn}${each.value}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "own" {
  for_each   = aws_s3_bucket.own
  bucket     = each.value.id
  policy     = data.aws_iam_policy_document.own_bucket[each.key].json
  depends_on = [aws_s3_bucket_public_access_block.own]
}

# The host boots from what is in the artifact bucket, so the bundle is there before the host is.
resource "aws_s3_object" "bundle" {
  # checkov:skip=CKV_AWS_186:Encrypted by the bucket's default, as above.
  bucket      = aws_s3_bucket.own["artifact"].id
  key         = basename(var.bundle_file)
  source      = var.bundle_file
  source_hash = try(filesha256(var.bundle_file), null)
  depends_on  = [aws_s3_bucket_versioning.own, aws_s3_bucket_policy.own]
}
